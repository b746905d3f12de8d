# How stable is an inferred network? README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "graph", "show_network", "observations", "inference", "distance", "stability", "plot")) {
  source(file.path("lib", paste0(part, ".R")))
}

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.02, "reading the table")
  values <- most_varying(observations(input_or_sample("data"), parameters)$values, parameters$top)
  set.seed(parameters$seed)
  samples <- resamplings(nrow(values), parameters)
  say("%d observations of %d columns, %d resamplings of %d to %d", nrow(values), ncol(values), length(samples),
      min(lengths(samples)), max(lengths(samples)))
  progress(0.05, paste("inferring by", parameters$method))
  whole <- infer(values, parameters)
  networks <- lapply(seq_along(samples), function(i) {
    if (i %% ceiling(length(samples) / 20) == 0) progress(0.05 + 0.65 * i / length(samples), sprintf("network %d of %d", i, length(samples)))
    infer(values[samples[[i]], , drop = FALSE], parameters)
  })
  progress(0.72, "measuring the distances")
  found <- stability_of(whole, networks, parameters)
  write_stability(found, whole)
  progress(0.9, "drawing")
  draw_stability(found, parameters)
  progress(1, "done")
}

run(main)
