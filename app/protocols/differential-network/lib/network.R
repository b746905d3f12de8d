# A co-expression network: list(correlation, weights); weights are symmetric, in [0, 1], diagonal 0.

infer_network <- function(expression, genes, parameters) {
  # A gene that is constant within a class has no correlation there, hence no edge.
  correlation <- suppressWarnings(stats::cor(t(expression), method = parameters$method))
  correlation[is.na(correlation)] <- 0
  correlation[] <- pmin(1, pmax(-1, correlation))
  dimnames(correlation) <- list(genes, genes)
  diag(correlation) <- 0
  list(correlation = correlation, weights = adjacency(correlation, parameters))
}

adjacency <- function(correlation, parameters) {
  strength <- abs(correlation)
  if (parameters$network == "soft") strength^parameters$beta else (strength >= parameters$threshold) * 1
}

# Edges that are counted and drawn: in soft networks, too, those whose |correlation| reaches the threshold.
shown <- function(network, parameters) {
  abs(network$correlation) >= parameters$threshold & upper.tri(network$correlation)
}

edge_count <- function(network, parameters) sum(shown(network, parameters))
