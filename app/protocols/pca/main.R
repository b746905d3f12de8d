# Principal components; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "observations", "components", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.1, "reading the table")
  data <- observations(input_or_sample("table"), parameters)
  say("%d observations of %d columns, %d groups", nrow(data$values), ncol(data$values), nlevels(data$group))
  progress(0.3, "computing the components")
  found <- components_of(data$values, parameters)
  write_csv(cbind(data.frame(name = data$names, group = data$group), found$scores), "scores.csv")
  write_csv(cbind(data.frame(column = colnames(data$values)), found$loadings), "loadings.csv")
  write_csv(found$variance, "variance.csv")
  progress(0.7, "drawing")
  draw_components(data, found)
  progress(1, "done")
}

run(main)
