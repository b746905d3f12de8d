# How two columns go together; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "correlation", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.1, "reading the table")
  table <- read_columns(input_or_sample("table"), parameters$id, parameters$only)
  pairs <- pairs_of(table, parameters)
  say("%d pairs of '%s' and '%s', %d groups", nrow(pairs$data), pairs$x, pairs$y, nlevels(pairs$data$group))
  progress(0.4, "computing")
  results <- correlations(pairs$data, parameters)
  write_csv(results, "correlation.csv")
  write_csv(pairs$data, "points.csv")
  progress(0.7, "drawing")
  draw_scatter(pairs, results, parameters)
  progress(1, "done")
}

run(main)
