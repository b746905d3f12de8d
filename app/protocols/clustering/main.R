# Groups of observations that are alike; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "observations", "clusters", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading the table")
  data <- observations(input_or_sample("table"), parameters)
  values <- prepared(data$values, parameters$scale)
  say("%d observations of %d columns", nrow(values), ncol(values))
  progress(0.2, "measuring distances")
  distances <- distances_of(values, parameters)
  tree <- if (parameters$algorithm == "hierarchical") stats::hclust(distances, parameters$linkage)
  progress(0.4, "clustering")
  tried <- try_counts(values, distances, tree, parameters)
  member <- tried$members[[which(tried$quality$chosen == "yes")]]
  say("%d clusters", max(member))
  write_results(data, values, distances, tree, member, tried$quality)
  progress(0.8, "drawing")
  draw_clusters(data, values, member, tree, tried$quality)
  progress(1, "done")
}

run(main)
