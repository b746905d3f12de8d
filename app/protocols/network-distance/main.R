# Distances between networks; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "graphs", "distance", "pairs", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading the networks")
  networks <- on_the_same_nodes(within_one(all_networks(parameters$names), parameters$scale))
  networks <- with_the_empty_one(networks)
  say("%d networks of %d nodes", length(networks), nrow(networks[[1]]))
  progress(0.2, "measuring")
  found <- all_pairs(networks, parameters, function(share) progress(0.2 + 0.5 * share, sprintf("%.0f%% of the pairs", 100 * share)))
  write_csv(found$pairs, "pairs.csv")
  chosen <- found$matrices[[c(H = "hamming", IM = "ipsen_mikhailov", HIM = "him")[[parameters$distance]]]]
  write_matrix_of(chosen)
  progress(0.8, "drawing")
  place <- scaled(chosen)
  if (!is.null(place)) write_csv(data.frame(network = rownames(place), place), "mds.csv")
  draw_distances(chosen, place, parameters$distance)
  progress(1, "done")
}

run(main)
