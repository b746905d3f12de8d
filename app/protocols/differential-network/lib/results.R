# The tables and networks that stay.

write_table <- function(table, directory, name) {
  table$row <- NULL
  utils::write.csv(table, file.path(directory, name), row.names = FALSE, fileEncoding = "UTF-8")
}

distance_table <- function(distances, networks, data, parameters) {
  edges <- lapply(networks, shown, parameters)
  common <- sum(edges[[1]] & edges[[2]])
  measures <- c(
    hamming = distances$hamming, ipsen_mikhailov = distances$im, him = distances$him,
    gamma = distances$gamma, xi = distances$xi, nodes = nrow(edges[[1]]),
    stats::setNames(vapply(edges, sum, 0L), paste0("edges_", data$classes)),
    edges_in_both = common, edges_in_one = sum(edges[[1]]) + sum(edges[[2]]) - 2 * common
  )
  data.frame(measure = names(measures), value = unname(measures))
}

write_networks <- function(networks, data, genes, parameters, directory) {
  for (i in 1:2) {
    place <- c("first", "second")[i]
    edges <- edge_table(networks[[i]], networks[[3 - i]], parameters)
    write_table(edges, directory, sprintf("edges_%s.csv", place))
    graph <- igraph::graph_from_data_frame(edges, directed = FALSE, vertices = node_table(genes))
    graph <- igraph::set_graph_attr(graph, "class", data$classes[i])
    igraph::write_graph(graph, file.path(directory, sprintf("network_%s.graphml", place)), format = "graphml")
  }
}

edge_table <- function(network, other, parameters) {
  at <- which(shown(network, parameters), arr.ind = TRUE)
  at <- at[order(-abs(network$correlation[at]), at[, 1], at[, 2]), , drop = FALSE]
  names <- rownames(network$correlation)
  data.frame(
    from = names[at[, 1]], to = names[at[, 2]],
    correlation = network$correlation[at], weight = network$weights[at],
    in_other_network = ifelse(shown(other, parameters)[at], "yes", "no")
  )
}

node_table <- function(genes) {
  data.frame(name = genes$gene, rank = genes$rank, t = genes$t, description = genes$description)
}
