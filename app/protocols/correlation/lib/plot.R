# The scatter plot with a line for each group.

SIGNS <- c(pearson = "r", spearman = "rho", kendall = "tau")

draw_scatter <- function(pairs, results, parameters) {
  data <- pairs$data
  groups <- levels(data$group)
  several <- length(groups) > 1
  labels <- group_labels(groups, results)
  colours <- group_colours(length(groups))
  shapes <- group_shapes(length(groups))
  picture("scatter", height = 6.25 + 0.2 * several * (legend_lines(labels) - 1), draw = function() {
    graphics::par(oma = c(if (several) legend_lines(labels) else 0, 0, 0, 0))
    axes(range(data$x), range(data$y), pairs$x, pairs$y, paste(pairs$y, "against", pairs$x), told(results[1, ], parameters))
    if (parameters$line) for (i in seq_along(groups)) draw_line(data[data$group == groups[i], ], colours[i])
    at <- as.integer(data$group)
    graphics::points(data$x, data$y, pch = shapes[at], bg = faded(colours[at], 0.75), col = "white", lwd = 0.6, cex = point_size(nrow(data)))
    if (several) legend_below(labels, colours, shapes)
  })
}

told <- function(row, parameters) {
  if (is.na(row$coef)) return(sprintf("n = %d, correlation not defined: a column is constant", row$n))
  interval <- if (is.na(row$coef_low)) "" else sprintf(" (%g%% interval %.3f to %.3f)", 100 * parameters$confidence, row$coef_low, row$coef_high)
  sprintf("%s, n = %d: %s = %.3f%s, %s", parameters$method, row$n, SIGNS[[parameters$method]], row$coef, interval, p_text(row$p_value))
}

group_labels <- function(groups, results) {
  coef <- results$coef[match(groups, results$group)]
  ifelse(is.na(coef), groups, sprintf("%s (%.2f)", shortened(groups, 20), coef))
}

draw_line <- function(data, colour) {
  if (nrow(data) < 3 || length(unique(data$x)) < 2) return(invisible())
  line <- line_through(data$x, data$y)
  ends <- range(data$x)
  graphics::lines(ends, line[2] + line[1] * ends, col = colour, lwd = 2)
}

point_size <- function(count) if (count > 2000) 0.7 else if (count > 300) 1 else 1.4
