# Two networks on one layout: what they share is grey, what only one of them has is in its colour.

COLOURS <- c("#C2410C", "#1D4ED8")
SHARED <- "#111827"
INK <- "#0F172A"
LABELS <- 40
LABEL_SIZE <- 0.66

draw_to_files <- function(networks, data, genes, distances, parameters, directory) {
  draw <- function() draw_networks(networks, data, genes, distances, parameters)
  grDevices::png(file.path(directory, "networks.png"), width = 2400, height = 1350, res = 160, type = "cairo")
  draw()
  grDevices::dev.off()
  grDevices::svg(file.path(directory, "networks.svg"), width = 15, height = 8.4375)
  draw()
  grDevices::dev.off()
}

draw_networks <- function(networks, data, genes, distances, parameters) {
  edges <- lapply(networks, shown, parameters)
  place <- common_layout(edges[[1]] | edges[[2]], parameters$seed)
  graphics::par(mfrow = c(1, 2), mar = c(0.5, 0.5, 2.2, 0.5), oma = c(3.2, 0.5, 4.2, 0.5), family = "sans", fg = INK)
  for (i in 1:2) draw_one(i, edges, networks, place, genes, data)
  graphics::mtext(sprintf("%s: %d genes, %s against %s", data$title, nrow(genes), data$classes[1], data$classes[2]),
                  outer = TRUE, line = 2.3, cex = 1.5, font = 2, col = INK)
  graphics::mtext(sprintf("Hamming %.4f     Ipsen-Mikhailov %.4f     HIM %.4f", distances$hamming, distances$im, distances$him),
                  outer = TRUE, line = 0.5, cex = 1.15, col = INK)
  draw_legend(data)
}

# The largest component where springs put it, by the union of both networks; all other nodes below it,
# each beside those that it is connected with.
common_layout <- function(union, seed) {
  graph <- igraph::graph_from_adjacency_matrix((union | t(union)) * 1, mode = "undirected")
  component <- igraph::components(graph)
  main <- which(component$membership == which.max(component$csize))
  rest <- setdiff(order(component$membership), main)
  set.seed(seed)
  part <- igraph::induced_subgraph(graph, main)
  start <- igraph::layout_with_fr(part, niter = 2000, grid = "nogrid")
  springs <- igraph::layout_with_kk(part, coords = start, maxiter = 50 * length(main))
  place <- matrix(0, nrow(union), 2)
  place[main, 1] <- rescaled(springs[, 1], -1, 1)
  place[main, 2] <- rescaled(springs[, 2], if (length(rest)) -0.84 else -1, 1)
  place[rest, 1] <- rescaled(seq_along(rest), -0.95, 0.95)
  place[rest, 2] <- -1.02
  place
}

rescaled <- function(values, low, high) {
  if (!length(values) || max(values) == min(values)) return(rep((low + high) / 2, length(values)))
  low + (high - low) * (values - min(values)) / (max(values) - min(values))
}

draw_one <- function(i, edges, networks, place, genes, data) {
  graphics::plot.new()
  graphics::plot.window(c(-1.1, 1.1), c(-1.06, 1.08))
  graphics::title(sprintf("%s: %d samples, %d edges", data$classes[i], sum(data$labels == data$classes[i]), sum(edges[[i]])),
                  col.main = COLOURS[i], cex.main = 1.25, line = 0.6)
  draw_edges(edges[[i]] & !edges[[3 - i]], networks[[i]], place, COLOURS[i], 0.55)
  draw_edges(edges[[i]] & edges[[3 - i]], networks[[i]], place, SHARED, 0.85)
  degree <- rowSums(edges[[i]]) + colSums(edges[[i]])
  # The fill tells in which class the gene is expressed more; the size, how many edges it has here.
  fill <- COLOURS[ifelse(genes$t > 0, 2, 1)]
  faint <- ifelse(degree > 0, 1, 0.35)
  graphics::points(place, pch = 21, cex = 0.9 + 2.1 * sqrt(degree / max(degree, 1)), lwd = 0.9,
                   bg = mapply(grDevices::adjustcolor, fill, faint), col = "white")
  draw_labels(place, genes$gene, degree)
}

draw_edges <- function(which_edges, network, place, colour, alpha) {
  at <- which(which_edges, arr.ind = TRUE)
  if (!nrow(at)) return(invisible())
  strength <- abs(network$correlation[at])
  width <- 0.6 + 2.2 * (strength - min(strength)) / max(1 - min(strength), 1e-9)
  style <- ifelse(network$correlation[at] < 0, 2, 1)
  graphics::segments(place[at[, 1], 1], place[at[, 1], 2], place[at[, 2], 1], place[at[, 2], 2],
                     col = grDevices::adjustcolor(colour, alpha), lwd = width, lty = style)
}

# Names of the best connected genes where there is room for them, with a light edge around the letters.
draw_labels <- function(place, names, degree) {
  chosen <- order(-degree)
  chosen <- utils::head(chosen[degree[chosen] > 0], LABELS)
  text <- sub("_(s_|f_|r_|g_|rna[0-9]_|cds[0-9]_)*(at|st)$", "", names)
  taken <- cbind(place[, 1] - 0.02, place[, 1] + 0.02, place[, 2] - 0.025, place[, 2] + 0.025)
  for (node in chosen) {
    at <- free_place(place[node, ], text[node], taken)
    if (is.null(at)) next
    taken <- rbind(taken, label_box(at, text[node]))
    haloed(at, text[node])
  }
}

# Above the node, below it, right or left of it: the first place where the label covers nothing.
free_place <- function(node, text, taken) {
  half <- graphics::strwidth(text, cex = LABEL_SIZE) / 2 + 0.045
  for (offset in list(c(0, 0.062), c(0, -0.062), c(half, 0), c(-half, 0))) {
    box <- label_box(node + offset, text)
    hit <- taken[, 1] < box[2] & taken[, 2] > box[1] & taken[, 3] < box[4] & taken[, 4] > box[3]
    if (!any(hit) && max(abs(box[1:2])) < 1.1) return(node + offset)
  }
  NULL
}

label_box <- function(at, text) {
  width <- graphics::strwidth(text, cex = LABEL_SIZE) / 2
  height <- graphics::strheight(text, cex = LABEL_SIZE) * 0.6
  c(at[1] - width, at[1] + width, at[2] - height, at[2] + height)
}

haloed <- function(at, text) {
  for (angle in seq(0, 2 * pi, length.out = 13)[-13]) {
    graphics::text(at[1] + 0.006 * cos(angle), at[2] + 0.006 * sin(angle), text, cex = LABEL_SIZE, col = "#FFFFFFC0")
  }
  graphics::text(at[1], at[2], text, cex = LABEL_SIZE, col = INK)
}

draw_legend <- function(data) {
  graphics::par(fig = c(0, 1, 0, 1), oma = c(0, 0, 0, 0), mar = c(0, 0, 0, 0), new = TRUE)
  graphics::plot.new()
  entries <- c("edge in both", sprintf("edge in %s only", data$classes), "negative correlation",
               sprintf("gene higher in %s", data$classes))
  graphics::legend(
    "bottom", legend = entries, horiz = TRUE, bty = "n", inset = 0.008, cex = 0.95, text.col = INK,
    col = c(SHARED, COLOURS, SHARED, COLOURS), lwd = c(3, 3, 3, 2, NA, NA), lty = c(1, 1, 1, 2, NA, NA),
    pch = c(NA, NA, NA, NA, 19, 19), pt.cex = 1.6, seg.len = 1.6, x.intersp = 0.7,
    text.width = graphics::strwidth(entries, cex = 0.95) + 0.012
  )
}
