# Figures of a network and of its nodes, by the package igraph.

# list(weights, shown = which pairs are edges, graph); edges are those of at least `threshold`, or all above 0.
the_network <- function(weights, threshold) {
  shown <- upper.tri(weights) & weights > 0 & weights >= threshold
  if (nrow(weights) < 2) inapplicable("The network has %d node.", nrow(weights))
  if (!any(shown)) inapplicable("The network has no edge of at least %g; its largest weight is %g.", threshold, max(weights))
  graph <- igraph::graph_from_adjacency_matrix(weights * (shown | t(shown)), mode = "undirected", weighted = TRUE)
  list(weights = weights, shown = shown, graph = graph)
}

nodes_of <- function(network, parameters) {
  graph <- network$graph
  degree <- igraph::degree(graph)
  # Weights say how near two nodes are; paths here count their steps.
  data.frame(
    node = rownames(network$weights), degree = degree, strength = igraph::strength(graph),
    betweenness = igraph::betweenness(graph, weights = NA), closeness = closeness_of(graph),
    clustering = igraph::transitivity(graph, type = "local", weights = NA, isolates = "zero"),
    component = igraph::components(graph)$membership, community = communities_of(graph, parameters),
    hub = ifelse(degree >= stats::quantile(degree, parameters$hubs / 100) & degree > 0, "yes", "no"), row.names = NULL
  )
}

# 1 / mean distance to the nodes that can be reached; 0 for a node alone.
closeness_of <- function(graph) {
  steps <- igraph::distances(graph, weights = NA)
  apply(steps, 1, function(row) {
    reached <- row[is.finite(row) & row > 0]
    if (length(reached)) 1 / mean(reached) else 0
  })
}

# Communities, the largest first.
communities_of <- function(graph, parameters) {
  set.seed(parameters$seed)
  weights <- igraph::E(graph)$weight
  found <- switch(parameters$communities,
    louvain = igraph::cluster_louvain(graph, weights = weights),
    walktrap = igraph::cluster_walktrap(graph, weights = weights),
    greedy = igraph::cluster_fast_greedy(graph, weights = weights),
    infomap = igraph::cluster_infomap(graph, e.weights = weights),
    spinglass = return(spinglass(graph))
  )
  by_size(as.integer(igraph::membership(found)))
}

# This method wants a connected network, so it takes one component after the other.
spinglass <- function(graph) {
  component <- igraph::components(graph)$membership
  member <- integer(length(component))
  for (one in unique(component)) {
    nodes <- which(component == one)
    part <- igraph::induced_subgraph(graph, nodes)
    inside <- if (length(nodes) > 2) as.integer(igraph::membership(igraph::cluster_spinglass(part))) else 1L
    member[nodes] <- max(member) + inside
  }
  by_size(member)
}

by_size <- function(member) match(member, names(sort(-table(member))))

community_at <- function(nodes, names) nodes$community[match(names, nodes$node)]

figures_of <- function(network, nodes) {
  graph <- network$graph
  steps <- igraph::distances(graph, weights = NA)
  largest <- which(nodes$component == which.max(table(nodes$component)))
  farthest <- apply(steps[largest, largest, drop = FALSE], 1, max)
  values <- c(
    nodes = nrow(nodes), edges = igraph::ecount(graph), density = igraph::edge_density(graph),
    components = max(nodes$component), nodes_of_the_largest_component = length(largest), nodes_alone = sum(nodes$degree == 0),
    radius_of_the_largest_component = min(farthest), diameter_of_the_largest_component = max(farthest),
    mean_path = mean(steps[upper.tri(steps) & is.finite(steps)]), mean_degree = mean(nodes$degree), largest_degree = max(nodes$degree),
    mean_strength = mean(nodes$strength), clustering = igraph::transitivity(graph, type = "global"),
    communities = max(nodes$community), modularity = igraph::modularity(graph, nodes$community, weights = igraph::E(graph)$weight),
    hubs = sum(nodes$hub == "yes")
  )
  data.frame(figure = names(values), value = unname(values))
}
