# A panel for each group, one above the other on a common axis.

draw_histograms <- function(values, counts, curves) {
  groups <- levels(values$data$group)
  colours <- group_colours(length(groups))
  top <- max(counts$density, curves$density)
  picture("histogram", height = 1.6 + max(4.4, 2.1 * length(groups)), draw = function() {
    graphics::par(mfrow = c(length(groups), 1), mar = c(1.6, 4.6, 1.8, 1.2), oma = c(3, 0, 2.2, 0), cex = 1)
    for (i in seq_along(groups)) {
      last <- i == length(groups)
      draw_panel(groups[i], values$data, counts, curves, colours[i], top, length(groups) > 1, last)
      if (i == 1) graphics::mtext(paste("Distribution of", values$column), side = 3, adj = 0, line = 1.6, font = 2, cex = 1.15, xpd = NA)
    }
    graphics::mtext(values$column, side = 1, outer = TRUE, line = 1.2, cex = 1.05)
  })
}

draw_panel <- function(group, data, counts, curves, colour, top, named, last) {
  here <- counts[counts$group == group, ]
  curve <- curves[curves$group == group, ]
  mine <- data$value[data$group == group]
  axes(range(counts$low, counts$high), c(0, top), ylab = "density", x = last)
  graphics::abline(v = graphics::axTicks(1), col = GRID)
  graphics::rect(here$low, 0, here$high, here$density, col = faded(colour, 0.45), border = "white")
  if (nrow(curve)) graphics::lines(curve$x, curve$density, col = colour, lwd = 2)
  graphics::segments(stats::median(mine), 0, stats::median(mine), top, lty = 2, col = INK)
  text <- sprintf("n = %d, median %.4g (dashed)", length(mine), stats::median(mine))
  graphics::mtext(if (named) paste0(group, ": ", text) else text, side = 3, adj = 0, line = 0.2, cex = 0.9, col = FAINT)
}
