# A network from data; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "graph", "show_network", "observations", "inference")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading the table")
  values <- most_varying(observations(input_or_sample("data"), parameters)$values, parameters$top)
  if (nrow(values) < 4) inapplicable("Only %d observations: a network needs 4.", nrow(values))
  say("%d observations of %d columns", nrow(values), ncol(values))
  progress(0.15, paste("inferring by", parameters$method))
  set.seed(parameters$seed)
  weights <- infer(values, parameters, function(share) progress(0.15 + 0.6 * share, sprintf("shuffling, %.0f%%", 100 * share)))
  progress(0.8, "writing")
  shown <- edges_shown(weights, parameters$threshold)
  edges <- edge_list(weights, shown)
  say("%d edges, %d of them shown", sum(weights[upper.tri(weights)] > 0), nrow(edges))
  write_matrix(weights, "adjacency.csv")
  write_csv(edges, "edges.csv")
  write_graphml(edges, data.frame(name = colnames(values)), "network.graphml")
  progress(0.85, "drawing")
  draw_network("network", weights, shown, sprintf("Network by %s", parameters$method),
               sprintf("%d nodes, %d edges shown, from %d observations", ncol(values), nrow(edges), nrow(values)), parameters$seed)
  progress(1, "done")
}

run(main)
