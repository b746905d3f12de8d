# The rows that matter most, as colours; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "observations", "ranking", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading the table")
  data <- observations(input_or_sample("table"), parameters)
  say("%d features of %d samples, %d groups", ncol(data$values), nrow(data$values), nlevels(data$group))
  progress(0.3, paste("ranking by", parameters$ranking_method))
  ranking <- ranking_of(data, parameters$ranking_method)
  write_csv(ranking, "ranking.csv")
  chosen <- utils::head(ranking$feature, parameters$max_rows)
  drawn <- arranged(t(data$values[, chosen, drop = FALSE]), data$group, parameters)
  table <- data.frame(rownames(drawn$values), drawn$values, check.names = FALSE)
  names(table) <- c("feature", data$names[drawn$columns])
  write_csv(table, "heatmap.csv")
  progress(0.7, "drawing")
  draw_heat_map(drawn, data, parameters)
  progress(1, "done")
}

run(main)
