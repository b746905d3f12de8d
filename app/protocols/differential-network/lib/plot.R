# Two networks on one layout: what they share is grey, what only one of them has is in its colour.

COLOURS <- c("#C2410C", "#1D4ED8")
SHARED <- "#111827"
INK <- "#0F172A"

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
  # Affymetrix's endings say nothing to readers.
  draw_labels(place, sub("_(s_|f_|r_|g_|rna[0-9]_|cds[0-9]_)*(at|st)$", "", genes$gene), degree)
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
