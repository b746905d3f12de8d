# Boxes and tests; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "boxes", "tests", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.1, "reading the table")
  table <- read_columns(input_or_sample("table"), parameters$id, parameters$only)
  data <- features_and_groups(table, parameters)
  say("%d rows, %d columns, %d groups", nrow(data$values), ncol(data$values), nlevels(data$group))
  progress(0.4, "computing")
  boxes <- boxes_of(data)
  tests <- tests_of(data, parameters$test)
  write_csv(boxes, "statistics.csv")
  write_csv(tests, "tests.csv")
  write_csv(pairs_of(data, parameters$test), "pairs.csv")
  progress(0.7, "drawing")
  draw_boxes(data, boxes, tests, parameters)
  progress(1, "done")
}

run(main)
