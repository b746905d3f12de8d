# Which genes differ between two classes, and how far; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "table", "picture", "input", "differences", "plot")) source(file.path("lib", paste0(part, ".R")))

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  progress(0.05, "reading expression")
  data <- two_classes(given_expression(), parameters)
  say("%d genes, %d samples %s, %d samples %s", nrow(data$values), sum(data$class == data$classes[1]), data$classes[1],
      sum(data$class == data$classes[2]), data$classes[2])
  progress(0.3, "comparing the classes")
  found <- differences(data, parameters)
  found$change <- change_of(found, parameters)
  write_csv(found, "genes.csv")
  write_csv(data.frame(change = c("higher", "lower", "none"), genes = vapply(c("higher", "lower", "none"), function(word) sum(found$change == word), 0L)), "summary.csv")
  say("%d genes differ", sum(found$change != "none"))
  progress(0.7, "drawing")
  draw_volcano(found, data$classes, parameters)
  progress(1, "done")
}

run(main)
