# One weighted, undirected network: its edges as a table, as GraphML, and as a drawing. Needs table, picture and graph.

# Which pairs are edges, in the upper triangle: those of at least `threshold`, or else the strongest, three for each node.
edges_shown <- function(weights, threshold) {
  upper <- upper.tri(weights) & weights > 0
  if (!is.null(threshold)) return(upper & weights >= threshold)
  strongest <- sort(weights[upper], decreasing = TRUE)
  most <- 3 * nrow(weights)
  if (length(strongest) <= most) upper else upper & weights >= strongest[most]
}

edge_list <- function(weights, shown) {
  at <- which(shown, arr.ind = TRUE)
  at <- at[order(-weights[at], at[, 1], at[, 2]), , drop = FALSE]
  names <- rownames(weights)
  data.frame(from = names[at[, 1]], to = names[at[, 2]], weight = weights[at])
}

write_graphml <- function(edges, nodes, name) {
  graph <- igraph::graph_from_data_frame(edges, directed = FALSE, vertices = nodes)
  igraph::write_graph(graph, file.path(Sys.getenv("LABFLEET_OUTPUTS"), name), format = "graphml")
}

# The square table with names on both sides.
write_matrix <- function(values, name, corner = "node") {
  table <- data.frame(rownames(values), values, check.names = FALSE)
  names(table)[1] <- corner
  write_csv(table, name)
}

# Nodes as large as they have edges, edges as thick as their weight; `group`, where given, colours the nodes.
draw_network <- function(name, weights, shown, title, subtitle, seed, group = NULL, outlined = rep(FALSE, nrow(weights))) {
  place <- common_layout(shown, seed)
  degree <- rowSums(shown) + colSums(shown)
  colour <- if (is.null(group)) COLOURS[1] else group_colours(max(group))[group]
  picture(name, width = 10, height = 8, draw = function() {
    graphics::par(mar = c(0.5, 0.5, 3.4, 0.5))
    graphics::plot.new()
    graphics::plot.window(c(-1.1, 1.1), c(-1.08, 1.08))
    heading(title, subtitle)
    draw_links(place, weights, shown)
    graphics::points(place, pch = 21, cex = 1 + 2.4 * sqrt(degree / max(degree, 1)), bg = faded(colour, ifelse(degree > 0, 0.9, 0.35)),
                     col = ifelse(outlined, INK, "white"), lwd = ifelse(outlined, 2, 0.9))
    draw_labels(place, shortened(rownames(weights), 20), degree)
  })
}

draw_links <- function(place, weights, shown) {
  at <- which(shown, arr.ind = TRUE)
  if (!nrow(at)) return(invisible())
  alike <- diff(range(weights[at])) < 1e-9
  strength <- if (alike) rep(0.2, nrow(at)) else weights[at] / max(weights[at])
  graphics::segments(place[at[, 1], 1], place[at[, 1], 2], place[at[, 2], 1], place[at[, 2], 2],
                     col = faded(FAINT, 0.35 + 0.5 * strength), lwd = 0.7 + 3 * strength)
}
