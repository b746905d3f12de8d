# What is in a network; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "graph", "graphs", "show_network", "statistics", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading the network")
  given <- read_networks(input_or_sample("network"), "the network")
  if (length(given) > 1) inapplicable("The list has %d networks; this protocol takes one.", length(given))
  network <- the_network(given[[1]], parameters$threshold)
  say("%d nodes, %d edges", igraph::vcount(network$graph), igraph::ecount(network$graph))
  progress(0.3, "computing")
  nodes <- nodes_of(network, parameters)
  figures <- figures_of(network, nodes)
  write_csv(figures, "statistics.csv")
  write_csv(nodes[order(-nodes$degree, -nodes$strength), ], "nodes.csv")
  edges <- edge_list(network$weights, network$shown)
  edges$same_community <- ifelse(community_at(nodes, edges$from) == community_at(nodes, edges$to), "yes", "no")
  write_csv(edges, "edges.csv")
  write_graphml(edges, data.frame(name = nodes$node, nodes[c("degree", "community", "hub")]), "network.graphml")
  progress(0.7, "drawing")
  draw_degrees(nodes)
  value <- function(name) figures$value[figures$figure == name]
  draw_network("network", network$weights, network$shown, "Network with its communities",
               sprintf("%d nodes, %d edges, %d communities, modularity %.3f; hubs are outlined", nrow(nodes), nrow(edges), value("communities"), value("modularity")),
               parameters$seed, nodes$community, nodes$hub == "yes")
  progress(1, "done")
}

run(main)
