# A panel for each feature, a box for each group.

MAX_POINTS <- 500

draw_boxes <- function(data, boxes, tests, parameters) {
  features <- colnames(data$values)
  columns <- if (length(features) == 1) 1 else if (length(features) <= 4) 2 else 3
  rows <- ceiling(length(features) / columns)
  groups <- levels(data$group)
  # A letter is about 0.085 inches wide.
  slanted <- 0.085 * (max(nchar(groups)) + 2) * length(groups) > 10 / columns - 1
  set.seed(parameters$seed)
  picture("boxes", height = max(5.5, (if (slanted) 4.6 else 3.9) * rows), draw = function() {
    graphics::par(mfrow = c(rows, columns), mar = c(if (slanted) 7 else 3.6, 4.6, 3.4, 1), cex = if (columns == 3) 0.8 else 1)
    for (feature in features) {
      draw_feature(feature, data, boxes[boxes$feature == feature, ], tests, parameters, slanted)
    }
  })
}

draw_feature <- function(feature, data, boxes, tests, parameters, slanted) {
  values <- data$values[, feature]
  if (all(is.na(values))) return(graphics::plot.new())
  count <- nrow(boxes)
  name <- if (parameters$transformation == "none") feature else sprintf("%s(%s)", parameters$transformation, feature)
  test <- tests[tests$feature == feature, ]
  under <- if (nrow(test) && !is.na(test$p_value)) sprintf("%s: %s", test$test, p_text(test$p_value)) else ""
  axes(c(0.5, count + 0.5), range(values, na.rm = TRUE), ylab = "", title = name, subtitle = under, x = FALSE)
  group_axis(boxes, slanted)
  colours <- group_colours(count)
  for (i in seq_len(count)) {
    if (!boxes$n[i]) next
    draw_box(i, boxes[i, ], colours[i])
    draw_values(i, values[data$group == boxes$group[i]], boxes[i, ], colours[i], parameters$points)
  }
}

group_axis <- function(boxes, slanted) {
  names <- shortened(boxes$group, if (slanted) 18 else 22)
  at <- seq_along(names)
  graphics::axis(1, at, labels = FALSE, col = NA, col.ticks = FAINT)
  if (!slanted) return(graphics::mtext(sprintf("%s\nn = %d", names, boxes$n), side = 1, at = at, line = 2, cex = 0.95 * graphics::par("cex")))
  bottom <- graphics::par("usr")[3] - 0.05 * diff(graphics::par("usr")[3:4])
  graphics::text(at, bottom, sprintf("%s (%d)", names, boxes$n), srt = 45, adj = 1, xpd = NA, cex = 0.75)
}

draw_box <- function(i, box, colour) {
  graphics::segments(i, c(box$l_wsk, box$u_qrt), i, c(box$l_qrt, box$u_wsk), col = INK)
  graphics::segments(i - 0.12, c(box$l_wsk, box$u_wsk), i + 0.12, col = INK)
  graphics::rect(i - 0.3, box$l_qrt, i + 0.3, box$u_qrt, col = faded(colour, 0.35), border = INK)
  graphics::segments(i - 0.3, box$median, i + 0.3, box$median, col = INK, lwd = 3)
}

# All values where they are asked for and few enough, or else the outliers alone.
draw_values <- function(i, values, box, colour, all) {
  values <- values[!is.na(values)]
  if (all && length(values) <= MAX_POINTS) {
    at <- i + stats::runif(length(values), -0.18, 0.18)
  } else {
    values <- values[values < box$l_wsk | values > box$u_wsk]
    at <- rep(i, length(values))
  }
  graphics::points(at, values, pch = 21, bg = faded(colour, 0.8), col = "white", lwd = 0.5)
}
