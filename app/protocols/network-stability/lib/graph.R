# Where nodes and their names go in the drawing of a network. Needs INK, and the package igraph.

LABELS <- 40
LABEL_SIZE <- 0.66
SPRINGS <- 300

# The largest component where springs put it; all other nodes below it, each beside those that it is connected with.
# `edges` is a logical matrix, either of its triangles counts.
common_layout <- function(edges, seed) {
  graph <- igraph::graph_from_adjacency_matrix((edges | t(edges)) * 1, mode = "undirected")
  component <- igraph::components(graph)
  main <- which(component$membership == which.max(component$csize))
  rest <- setdiff(order(component$membership), main)
  set.seed(seed)
  part <- igraph::induced_subgraph(graph, main)
  springs <- igraph::layout_with_fr(part, niter = 2000, grid = "nogrid")
  # The finer method takes too long for large networks.
  if (length(main) <= SPRINGS) springs <- igraph::layout_with_kk(part, coords = springs, maxiter = 50 * length(main))
  place <- matrix(0, nrow(edges), 2)
  place[main, 1] <- rescaled(springs[, 1], -1, 1)
  place[main, 2] <- rescaled(springs[, 2], if (length(rest)) -0.84 else -1, 1)
  place[rest, 1] <- rescaled(seq_along(rest), -0.95, 0.95)
  place[rest, 2] <- -1.02
  place
}

rescaled <- function(values, low, high) {
  if (!length(values) || max(values) == min(values)) return(rep((low + high) / 2, length(values)))
  low + (high - low) * (values - min(values)) / (max(values) - min(values))
}

# Names of the best connected nodes where there is room for them, with a light edge around the letters.
draw_labels <- function(place, text, degree) {
  chosen <- order(-degree)
  chosen <- utils::head(chosen[degree[chosen] > 0], LABELS)
  taken <- cbind(place[, 1] - 0.02, place[, 1] + 0.02, place[, 2] - 0.025, place[, 2] + 0.025)
  for (node in chosen) {
    at <- free_place(place[node, ], text[node], taken)
    if (is.null(at)) next
    taken <- rbind(taken, label_box(at, text[node]))
    haloed(at, text[node])
  }
}

# Above the node, below it, right or left of it: the first place where the label covers nothing.
free_place <- function(node, text, taken) {
  half <- graphics::strwidth(text, cex = LABEL_SIZE) / 2 + 0.045
  for (offset in list(c(0, 0.062), c(0, -0.062), c(half, 0), c(-half, 0))) {
    box <- label_box(node + offset, text)
    hit <- taken[, 1] < box[2] & taken[, 2] > box[1] & taken[, 3] < box[4] & taken[, 4] > box[3]
    if (!any(hit) && max(abs(box[1:2])) < 1.1) return(node + offset)
  }
  NULL
}

label_box <- function(at, text) {
  width <- graphics::strwidth(text, cex = LABEL_SIZE) / 2
  height <- graphics::strheight(text, cex = LABEL_SIZE) * 0.6
  c(at[1] - width, at[1] + width, at[2] - height, at[2] + height)
}

haloed <- function(at, text) {
  for (angle in seq(0, 2 * pi, length.out = 13)[-13]) {
    graphics::text(at[1] + 0.006 * cos(angle), at[2] + 0.006 * sin(angle), text, cex = LABEL_SIZE, col = "#FFFFFFC0")
  }
  graphics::text(at[1], at[2], text, cex = LABEL_SIZE, col = INK)
}
