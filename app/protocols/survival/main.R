# Time until an event; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "times", "curves", "cox", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.1, "reading the table")
  table <- read_columns(input_or_sample("table"), parameters$id, parameters$only)
  columns <- group_columns(table, parameters$groups, c(parameters$time, parameters$event, "event", parameters$id))
  data <- times_of(table, columns, parameters)
  say("%d rows, %d events, %d groups", nrow(data), sum(data$event), nlevels(data$group))
  progress(0.3, "estimating the curves")
  fit <- fit_curves(data, parameters)
  curves <- curve_table(fit, data, parameters)
  write_csv(curves, "curves.csv")
  write_csv(summary_table(fit, data), "summary.csv")
  test <- log_rank(data)
  if (!is.null(test)) write_csv(test, "tests.csv")
  progress(0.5, "fitting Cox's model")
  cox <- cox_table(table, data, if (length(parameters$covariates)) parameters$covariates else columns, parameters$confidence)
  if (!is.null(cox)) write_csv(cox, "cox.csv")
  progress(0.8, "drawing")
  draw_survival(curves, data, test, parameters)
  progress(1, "done")
}

run(main)
