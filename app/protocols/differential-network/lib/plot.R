# Two networks on one layout: what they share is grey, what only one of them has is in its colour.

COLOURS <- c("#C2410C", "#1D4ED8")
SHARED <- "#64748B"
INK <- "#0F172A"
LABELS <- 30

draw_to_files <- function(networks, data, genes, distances, parameters, directory) {
  draw <- function() draw_networks(networks, data, genes, distances, parameters)
  grDevices::png(file.path(directory, "networks.png"), width = 2400, height = 1440, res = 160, type = "cairo")
  draw()
  grDevices::dev.off()
  grDevices::svg(file.path(directory, "networks.svg"), width = 15, height = 9)
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

# Connected nodes by forces on the union of both networks; nodes without any edge on a ring around them.
common_layout <- function(union, seed) {
  either <- union | t(union)
  connected <- which(rowSums(either) > 0)
  place <- matrix(0, nrow(union), 2)
  if (length(connected)) {
    set.seed(seed)
    graph <- igraph::graph_from_adjacency_matrix(either[connected, connected, drop = FALSE] * 1, mode = "undirected")
    place[connected, ] <- to_disc(igraph::layout_with_fr(graph, niter = 3000, grid = "nogrid"), 0.86)
  }
  alone <- setdiff(seq_len(nrow(union)), connected)
  angle <- 2 * pi * seq_along(alone) / max(length(alone), 1)
  place[alone, ] <- 1.02 * cbind(cos(angle), sin(angle))
  place
}

# Centred, and as large as the radius; the square root draws far-off components nearer.
to_disc <- function(place, radius) {
  place <- sweep(place, 2, colMeans(apply(place, 2, range)))
  length <- sqrt(rowSums(place^2))
  if (max(length) == 0) return(place)
  place * radius * ifelse(length > 0, sqrt(length / max(length)) / pmax(length, 1e-9), 0)
}

draw_one <- function(i, edges, networks, place, genes, data) {
  graphics::plot.new()
  graphics::plot.window(c(-1.12, 1.12), c(-1.1, 1.1), asp = 1)
  graphics::title(sprintf("%s: %d samples, %d edges", data$classes[i], sum(data$labels == data$classes[i]), sum(edges[[i]])),
                  col.main = COLOURS[i], cex.main = 1.25, line = 0.6)
  draw_edges(edges[[i]] & edges[[3 - i]], networks[[i]], place, SHARED, 0.45)
  draw_edges(edges[[i]] & !edges[[3 - i]], networks[[i]], place, COLOURS[i], 0.60)
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

# Names of the best connected genes, each with a light edge around the letters so that it reads above lines.
draw_labels <- function(place, names, degree) {
  chosen <- utils::head(order(-degree), LABELS)
  chosen <- chosen[degree[chosen] > 0]
  if (!length(chosen)) return(invisible())
  text <- sub("_(s_|f_|r_|g_|rna[0-9]_|cds[0-9]_)?at$", "", names[chosen])
  y <- place[chosen, 2] + 0.05
  for (angle in seq(0, 2 * pi, length.out = 13)[-13]) {
    graphics::text(place[chosen, 1] + 0.005 * cos(angle), y + 0.005 * sin(angle), text, cex = 0.58, col = "#FFFFFFB0")
  }
  graphics::text(place[chosen, 1], y, text, cex = 0.58, col = INK)
}

draw_legend <- function(data) {
  graphics::par(fig = c(0, 1, 0, 1), oma = c(0, 0, 0, 0), mar = c(0, 0, 0, 0), new = TRUE)
  graphics::plot.new()
  graphics::legend(
    "bottom", horiz = TRUE, bty = "n", inset = 0.005, cex = 0.95, text.col = INK, x.intersp = 0.6,
    legend = c("edge in both", sprintf("edge in %s only", data$classes), "negative correlation", sprintf("gene higher in %s", data$classes)),
    col = c(SHARED, COLOURS, SHARED, COLOURS), lwd = c(3, 3, 3, 2, NA, NA), lty = c(1, 1, 1, 2, NA, NA),
    pch = c(NA, NA, NA, NA, 19, 19), seg.len = 1.6
  )
}
