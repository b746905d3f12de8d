# How one column is distributed; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "histogram", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.1, "reading the table")
  table <- read_columns(input_or_sample("table"), parameters$id, parameters$only)
  values <- values_of(table, parameters)
  say("%d values of '%s', %d groups", nrow(values$data), values$column, nlevels(values$data$group))
  progress(0.4, "counting")
  breaks <- breaks_of(values$data$value, parameters$bins)
  counts <- counts_of(values$data, breaks)
  curves <- curves_of(values$data, parameters$bandwidth)
  write_csv(counts, "histogram.csv")
  write_csv(curves, "density.csv")
  write_csv(summaries_of(values$data), "summary.csv")
  progress(0.7, "drawing")
  draw_histograms(values, counts, curves)
  progress(1, "done")
}

run(main)
