# Left the observations in the plane of their first two components, right the tree or how well each number of clusters fits.

draw_clusters <- function(data, values, member, tree, quality) {
  count <- max(member)
  labels <- sprintf("cluster %d (%d)", seq_len(count), tabulate(member, count))
  picture("clusters", width = 13, height = 6.9 + 0.2 * (legend_lines(labels, 13) - 1), draw = function() {
    graphics::par(mfrow = c(1, 2), oma = c(legend_lines(labels, 13), 0, 0, 0), cex = 1)
    draw_plane(values, member, quality)
    if (is.null(tree)) draw_quality(quality) else draw_tree(tree, member)
    legend_below(labels, group_colours(count), group_shapes(count))
  })
}

draw_plane <- function(values, member, quality) {
  parts <- stats::prcomp(values)
  place <- cbind(parts$x, 0)[, 1:2]
  share <- 100 * parts$sdev^2 / sum(parts$sdev^2)
  chosen <- quality[quality$chosen == "yes", ]
  axes(range(place[, 1]), range(place[, 2]), sprintf("first component (%.0f%%)", share[1]), sprintf("second component (%.0f%%)", c(share, 0)[2]),
       sprintf("%d clusters", chosen$k), sprintf("n = %d, mean silhouette %.3f", nrow(values), chosen$mean_silhouette))
  graphics::points(place, pch = group_shapes(max(member))[member], bg = faded(group_colours(max(member)), 0.75)[member], col = "white", lwd = 0.5, cex = 1.3)
}

draw_quality <- function(quality) {
  axes(range(quality$k), c(min(0, quality$mean_silhouette), max(quality$mean_silhouette)), "number of clusters", "mean silhouette",
       "How many clusters?", "higher is better; filled: chosen", x = FALSE)
  graphics::axis(1, quality$k, col = NA, col.ticks = FAINT)
  graphics::lines(quality$k, quality$mean_silhouette, col = COLOURS[1], lwd = 2)
  graphics::points(quality$k, quality$mean_silhouette, pch = 21, cex = 1.5, col = COLOURS[1], bg = ifelse(quality$chosen == "yes", COLOURS[1], "white"))
}

# The tree from its merges: each is drawn in its cluster's colour, above the cut in ink.
draw_tree <- function(tree, member) {
  count <- length(tree$order)
  axes(c(1, count), c(0, max(tree$height)), "", "height", "Tree", sprintf("cut into %d clusters", max(member)), x = FALSE)
  place <- function(node, x, height) if (node < 0) c(match(-node, tree$order), 0) else c(x[node], height[node])
  leaf <- integer(count - 1)
  x <- numeric(count - 1)
  cut_above <- count - max(member)
  for (i in seq_len(count - 1)) {
    ends <- lapply(tree$merge[i, ], place, x, tree$height)
    leaf[i] <- if (tree$merge[i, 1] < 0) -tree$merge[i, 1] else leaf[tree$merge[i, 1]]
    x[i] <- (ends[[1]][1] + ends[[2]][1]) / 2
    colour <- if (i <= cut_above) group_colours(max(member))[member[leaf[i]]] else INK
    graphics::lines(c(ends[[1]][1], ends[[1]][1], ends[[2]][1], ends[[2]][1]), c(ends[[1]][2], tree$height[i], tree$height[i], ends[[2]][2]), col = colour)
  }
}
