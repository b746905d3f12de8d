# How many nodes have how many edges.

draw_degrees <- function(nodes) {
  highest <- max(nodes$degree)
  # One bar for each degree, or 40 of equal width.
  width <- max(1, ceiling((highest + 1) / 40))
  start <- seq(0, highest, by = width)
  count <- tabulate(nodes$degree %/% width + 1, length(start))
  picture("degrees", draw = function() {
    axes(c(-0.5, max(start) + width), c(0, max(count)), "degree (edges of a node)", "nodes", "Degrees",
         sprintf("%d nodes, mean degree %.2f", nrow(nodes), mean(nodes$degree)))
    graphics::rect(start - 0.45, 0, start + width - 0.55, count, col = faded(COLOURS[1], 0.6), border = "white")
  })
}
