# Left the first two components with the strongest loadings as arrows, right how much each component explains.

ARROWS <- 8
NAMED <- 30

draw_components <- function(data, found) {
  groups <- levels(data$group)
  several <- length(groups) > 1
  picture("pca", width = 12, height = 6.6, draw = function() {
    graphics::layout(matrix(1:2, 1), widths = c(1.9, 1))
    graphics::par(oma = c(if (several) legend_lines(groups, 12) else 0, 0, 0, 0), cex = 1)
    draw_scores(data, found)
    draw_variance(found$variance)
    if (several) legend_below(groups, group_colours(length(groups)), group_shapes(length(groups)))
  })
}

draw_scores <- function(data, found) {
  place <- as.matrix(found$scores[, 1:2])
  share <- sprintf("%s (%.1f%%)", found$variance$component[1:2], 100 * found$variance$ratio[1:2])
  # Room for the names of the arrows.
  axes(range(place[, 1]) * 1.12, range(place[, 2]) * 1.12, share[1], share[2], "Principal components",
       sprintf("%d observations, %d columns; arrows: loadings", nrow(place), ncol(data$values)))
  graphics::abline(h = 0, v = 0, col = FAINT, lty = 3)
  at <- as.integer(data$group)
  graphics::points(place, pch = group_shapes(nlevels(data$group))[at], bg = faded(group_colours(nlevels(data$group))[at], 0.75),
                   col = "white", lwd = 0.5, cex = 1.3)
  if (nrow(place) <= NAMED) graphics::text(place, shortened(data$names, 14), pos = 3, cex = 0.7, offset = 0.4, col = FAINT)
  draw_arrows(as.matrix(found$loadings[, 1:2]), colnames(data$values), apply(abs(place), 2, max))
}

draw_arrows <- function(loadings, names, reach) {
  strongest <- utils::head(order(-rowSums(sweep(loadings, 2, reach, `*`)^2)), ARROWS)
  scale <- 0.85 * min(reach / apply(abs(loadings[strongest, , drop = FALSE]), 2, max))
  ends <- loadings[strongest, , drop = FALSE] * scale
  long <- sqrt(rowSums(sweep(ends, 2, reach, `/`)^2)) > 0.03
  graphics::arrows(0, 0, ends[long, 1], ends[long, 2], length = 0.08, col = INK, lwd = 1.3)
  label_ends(ends[long, , drop = FALSE], shortened(names[strongest][long], 22))
}

# Names beyond the arrows' ends, within the plot.
label_ends <- function(ends, names) {
  usr <- graphics::par("usr")
  half <- graphics::strwidth(names, cex = 0.8) / 2
  x <- pmin(pmax(ends[, 1] + sign(ends[, 1]) * (half + 0.01 * diff(usr[1:2])), usr[1] + half), usr[2] - half)
  y <- spread_out(x, ends[, 2], names, 0.8)
  tall <- 0.7 * graphics::strheight("Ag", cex = 0.8)
  graphics::rect(x - half, y - tall, x + half, y + tall, col = faded("white", 0.75), border = NA)
  graphics::text(x, y, names, cex = 0.8, font = 2)
}

draw_variance <- function(variance) {
  count <- min(nrow(variance), 10)
  shown <- variance[seq_len(count), ]
  axes(c(0.4, count + 0.6), c(0, 100), "component", "explained variance (%)", "Explained variance", "bars: each; line: together", x = FALSE)
  graphics::axis(1, seq_len(count), col = NA, col.ticks = FAINT)
  graphics::rect(seq_len(count) - 0.38, 0, seq_len(count) + 0.38, 100 * shown$ratio, col = COLOURS[5], border = NA)
  graphics::lines(seq_len(count), 100 * shown$cumulative, type = "b", pch = 19, col = INK)
}
