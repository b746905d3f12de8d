# From above: the tree of the samples, a band of their groups, the tiles, a key of the colours and of the groups.

NAMED_ROWS <- 120
NAMED_COLUMNS <- 100

draw_heat_map <- function(drawn, data, parameters) {
  rows <- nrow(drawn$values)
  columns <- ncol(drawn$values)
  groups <- levels(data$group)
  several <- length(groups) > 1
  body <- min(max(3, 0.16 * rows), 18)
  reach <- reach_of(drawn$values, parameters$scale)
  picture("heatmap", width = 11, height = body + 3.65, draw = function() {
    graphics::par(oma = c(0, 0, 0, 0))
    graphics::layout(matrix(1:3, 3), heights = c(1.45, body + 0.2, 1.75))
    graphics::par(cex = 1, mar = c(if (several) 1.1 else 0.1, 1, 2.8, 7))
    draw_sample_tree(drawn$tree, columns)
    heading("Heat map", sprintf("%d of %d features (%s), %d samples", rows, ncol(data$values), parameters$ranking_method, columns))
    if (several) draw_band(data$group[drawn$columns], columns)
    graphics::par(mar = c(0.2, 1, 0, 7))
    draw_tiles(drawn$values, reach)
    graphics::par(mar = c(2.6, 1, 4.8, 7))
    draw_key(reach, parameters$scale, data$names[drawn$columns], columns, groups, several)
  })
}

# The values that get the extreme colours: around 0 where rows are scaled.
reach_of <- function(values, scaled) {
  if (scaled) c(-1, 1) * max(min(stats::quantile(abs(values), 0.99, names = FALSE), 4), 1e-9) else range(values) + c(0, if (diff(range(values)) == 0) 1 else 0)
}

ramp <- function() grDevices::hcl.colors(101, "Blue-Red 3")

draw_sample_tree <- function(tree, columns) {
  graphics::plot.new()
  graphics::plot.window(c(0.5, columns + 0.5), c(0, 1), xaxs = "i")
  if (is.null(tree) || max(tree$height) == 0) return(invisible())
  height <- tree$height / max(tree$height)
  x <- numeric(length(height))
  place <- function(node) if (node < 0) c(match(-node, tree$order), 0) else c(x[node], height[node])
  for (i in seq_along(height)) {
    a <- place(tree$merge[i, 1])
    b <- place(tree$merge[i, 2])
    x[i] <- (a[1] + b[1]) / 2
    graphics::lines(c(a[1], a[1], b[1], b[1]), c(a[2], height[i], height[i], b[2]), col = FAINT)
  }
}

draw_band <- function(group, columns) {
  # Between the tree and the tiles, in the margin.
  low <- graphics::grconvertY(0.2, "lines", "user") - graphics::grconvertY(0, "lines", "user")
  bottom <- graphics::par("usr")[3] - 4.6 * low
  colours <- group_colours(nlevels(group))[as.integer(group)]
  graphics::rect(seq_len(columns) - 0.5, bottom, seq_len(columns) + 0.5, graphics::par("usr")[3] - 0.6 * low, col = colours, border = NA, xpd = NA)
}

draw_tiles <- function(values, reach) {
  rows <- nrow(values)
  columns <- ncol(values)
  graphics::plot.new()
  graphics::plot.window(c(0.5, columns + 0.5), c(rows + 0.5, 0.5), xaxs = "i", yaxs = "i")
  at <- 1 + round(100 * (pmin(pmax(values, reach[1]), reach[2]) - reach[1]) / diff(reach))
  graphics::rasterImage(grDevices::as.raster(matrix(ramp()[at], rows)), 0.5, rows + 0.5, columns + 0.5, 0.5, interpolate = FALSE)
  if (rows > NAMED_ROWS) return(invisible())
  size <- min(0.85, 0.85 * (graphics::par("pin")[2] / rows) / 0.15)
  graphics::axis(4, seq_len(rows), shortened(rownames(values), 16), tick = FALSE, line = -0.4, cex.axis = size, gap.axis = -1)
}

draw_key <- function(reach, scaled, names, columns, groups, several) {
  graphics::plot.new()
  graphics::plot.window(c(0.5, columns + 0.5), c(0, 1), xaxs = "i")
  usr <- graphics::par("usr")
  if (columns <= NAMED_COLUMNS) {
    size <- min(0.75, 0.75 * (graphics::par("pin")[1] / columns) / 0.14)
    top <- graphics::grconvertY(graphics::grconvertY(1, "npc", "inches") + graphics::par("mai")[3] - 0.05, "inches", "user")
    # Narrow columns have no room for slanted names.
    narrow <- columns > 12
    graphics::text(seq_len(columns), top, shortened(names, 12), srt = if (narrow) 90 else 45, adj = c(1, if (narrow) 0.5 else 1), xpd = NA, cex = size)
  }
  ends <- usr[1] + c(0, 0.25) * diff(usr[1:2])
  graphics::rasterImage(grDevices::as.raster(matrix(ramp(), 1)), ends[1], 0.3, ends[2], 0.9, xpd = NA)
  graphics::text(c(ends[1], mean(ends), ends[2]), 0.1, sprintf("%.3g", c(reach[1], mean(reach), reach[2])), adj = c(0.5, 1), xpd = NA, cex = 0.8)
  graphics::mtext(if (scaled) "standard deviations from the row's mean" else "value", side = 1, line = 1.4, adj = 0, cex = 0.8, col = FAINT)
  if (several) {
    graphics::legend(ends[2] + 0.05 * diff(usr[1:2]), 1.2, shortened(groups, 20), fill = group_colours(length(groups)), border = NA, bty = "n", xpd = NA,
                     ncol = min(length(groups), 5), cex = 0.85)
  }
}
