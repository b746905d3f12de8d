# Differential network analysis; README.md tells what it does, protocol.yml what it takes and leaves.
options(warn = 1, stringsAsFactors = FALSE)
for (part in c("talk", "input", "genes", "network", "distance", "graph", "plot", "results")) {
  source(file.path("lib", paste0(part, ".R")))
}

main <- function() {
  parameters <- jsonlite::fromJSON(Sys.getenv("LABFLEET_PARAMETERS"))
  outputs <- Sys.getenv("LABFLEET_OUTPUTS")

  progress(0.05, "reading expression")
  data <- two_classes(read_expression(Sys.getenv("LABFLEET_INPUTS")), parameters$classes)
  say("%d genes, %s", nrow(data$expression), describe_classes(data))

  progress(0.20, "choosing the genes that differ most")
  genes <- genes_that_differ(data, parameters$genes)
  write_table(genes, outputs, "genes.csv")

  progress(0.40, "inferring the networks")
  networks <- lapply(data$classes, function(class) {
    infer_network(data$expression[genes$row, data$labels == class, drop = FALSE], genes$gene, parameters)
  })
  for (i in 1:2) say("%s: %d edges", data$classes[i], edge_count(networks[[i]], parameters))

  progress(0.60, "measuring the distances")
  distances <- him_distance(networks[[1]]$weights, networks[[2]]$weights, parameters$xi, parameters$gamma)
  say("Hamming %.4f, Ipsen-Mikhailov %.4f, HIM %.4f", distances$hamming, distances$im, distances$him)
  write_table(distance_table(distances, networks, data, parameters), outputs, "distances.csv")
  write_networks(networks, data, genes, parameters, outputs)

  progress(0.80, "drawing")
  draw_to_files(networks, data, genes, distances, parameters, outputs)
  progress(1.00, "done")
}

run(main)
