# S and SI as histograms, the nodes' stability as bars, edges as points: weight against stability.

BARS <- 25

draw_stability <- function(found, parameters) {
  picture("stability", width = 12, height = 9.5, draw = function() {
    graphics::par(mfrow = c(2, 2), mar = c(4.4, 4.8, 3.6, 1.2), cex = 1)
    draw_distances(found$s, "S: from the whole network", COLOURS[1], parameters$distance, "networks")
    draw_distances(found$si$distance, "SI: among the resamplings", COLOURS[2], parameters$distance, "pairs of networks")
    draw_nodes(found$sd)
    draw_edges(found$sw)
  })
}

draw_distances <- function(values, title, colour, distance, of) {
  if (!length(values)) return(graphics::plot.new())
  breaks <- if (max(values) > 0) seq(0, max(values) * 1.0001, length.out = 21) else c(0, 0.01)
  counts <- graphics::hist(values, breaks, plot = FALSE)$counts
  axes(c(0, max(breaks)), c(0, max(counts)), paste(distance, "distance"), of, title,
       sprintf("n = %d, mean %.4f (dashed)", length(values), mean(values)))
  graphics::rect(breaks[-length(breaks)], 0, breaks[-1], counts, col = faded(colour, 0.5), border = "white")
  graphics::segments(mean(values), 0, mean(values), max(counts), lty = 2)
}

draw_nodes <- function(nodes) {
  nodes <- utils::head(nodes[order(nodes$stability), ], BARS)
  nodes <- nodes[rev(seq_len(nrow(nodes))), ]
  graphics::par(mar = c(4.4, 8, 3.6, 1.2))
  axes(c(0, max(nodes$stability, 1e-9)), c(0.4, nrow(nodes) + 0.6), "range of the degree / mean", "", "Sd: the most stable nodes", "short bars are stable", y = FALSE)
  graphics::rect(0, seq_len(nrow(nodes)) - 0.38, nodes$stability, seq_len(nrow(nodes)) + 0.38, col = COLOURS[3], border = NA)
  graphics::axis(2, seq_len(nrow(nodes)), shortened(nodes$node, 14), tick = FALSE, line = -0.5, cex.axis = if (nrow(nodes) > 15) 0.7 else 0.9, gap.axis = -1)
  graphics::par(mar = c(4.4, 4.8, 3.6, 1.2))
}

draw_edges <- function(edges) {
  if (!nrow(edges)) return(graphics::plot.new())
  axes(c(0, max(edges$weight, edges$mean)), c(0, max(edges$stability)), "mean weight", "range of the weight / mean", "Sw: edges", "low is stable, right is strong")
  graphics::points(edges$mean, edges$stability, pch = 21, bg = faded(COLOURS[4], 0.5), col = "white", lwd = 0.4)
}
