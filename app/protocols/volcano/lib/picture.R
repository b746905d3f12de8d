# Pictures: PNG to look at, SVG to print, both of the same drawing.

INK <- "#0F172A"
FAINT <- "#64748B"
GRID <- "#E2E8F0"
# Okabe and Ito's colours, which colour-blind people tell apart too; yellow, faint on white, comes late.
COLOURS <- c("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
SHAPES <- c(21, 22, 24, 23, 25)

group_colours <- function(count) COLOURS[(seq_len(count) - 1) %% length(COLOURS) + 1]
# After the eighth group colours come again, with another shape.
group_shapes <- function(count) SHAPES[((seq_len(count) - 1) %/% length(COLOURS) + seq_len(count) - 1) %% length(SHAPES) + 1]
faded <- function(colours, alpha) unname(mapply(grDevices::adjustcolor, colours, alpha))

# Draw into NAME.png (160 dots an inch) and NAME.svg; width and height in inches.
picture <- function(name, draw, width = 10, height = 6.25) {
  base <- file.path(Sys.getenv("LABFLEET_OUTPUTS"), name)
  grDevices::png(paste0(base, ".png"), width = width, height = height, units = "in", res = 160, type = "cairo")
  drawn(draw)
  grDevices::svg(paste0(base, ".svg"), width = width, height = height)
  drawn(draw)
}

drawn <- function(draw) {
  on.exit(grDevices::dev.off())
  graphics::par(family = "sans", fg = INK, col.axis = INK, col.lab = INK, col.main = INK, las = 1,
                mar = c(4.2, 4.6, 3.2, 1.2), mgp = c(2.9, 0.6, 0), tcl = -0.3, cex.axis = 0.95, cex.lab = 1.05)
  draw()
}

# Empty axes with a light grid, a title on the left and a line below it.
axes <- function(xlim, ylim, xlab = "", ylab = "", title = "", subtitle = "", x = TRUE, y = TRUE) {
  graphics::plot.new()
  graphics::plot.window(xlim, ylim)
  graphics::abline(h = graphics::axTicks(2), col = GRID)
  if (x) graphics::abline(v = graphics::axTicks(1), col = GRID)
  if (x) graphics::axis(1, col = NA, col.ticks = FAINT)
  if (y) graphics::axis(2, col = NA, col.ticks = FAINT)
  graphics::box(bty = "l", col = FAINT)
  graphics::title(xlab = xlab, line = 2.3)
  graphics::title(ylab = ylab)
  heading(title, subtitle)
}

heading <- function(title, subtitle = "") {
  graphics::mtext(title, side = 3, adj = 0, line = if (nzchar(subtitle)) 1.3 else 0.6, font = 2, cex = 1.15 * graphics::par("cex"))
  graphics::mtext(subtitle, side = 3, adj = 0, line = 0.2, cex = 0.9 * graphics::par("cex"), col = FAINT)
}

# Names in a band of their own below the plot, in as many rows as they need.
legend_below <- function(labels, colours, shapes = NULL, lines = FALSE, line = 0) {
  graphics::par(fig = c(0, 1, 0, 1), oma = c(0, 0, 0, 0), mar = c(0, 0, 0, 0), new = TRUE)
  graphics::plot.new()
  labels <- shortened(labels, 28)
  wide <- max(graphics::strwidth(labels, cex = 0.95)) + 0.07
  common <- list("bottom", legend = labels, ncol = max(1, min(length(labels), floor(0.96 / wide))), bty = "n",
                 cex = 0.95, inset = 0.008, text.col = INK,
                 text.width = max(graphics::strwidth(labels, cex = 0.95)) + 0.012)
  marks <- if (lines) list(col = colours, lwd = 3, seg.len = 1.4) else list(pch = shapes, pt.bg = colours, col = "white", pt.cex = 1.5)
  do.call(graphics::legend, c(common, marks))
}

# How many lines of margin `legend_below` takes on a picture of this width in inches.
legend_lines <- function(labels, width = 10) {
  columns <- max(1, floor(0.9 * width / (0.09 * (min(max(nchar(labels)), 28) + 6))))
  1.6 * ceiling(length(labels) / columns)
}

# Heights of labels centred at x, y, moved up where they would cover each other.
spread_out <- function(x, y, names, cex) {
  width <- graphics::strwidth(names, cex = cex)
  height <- 1.5 * graphics::strheight("Ag", cex = cex)
  for (i in seq_along(y)) {
    placed <- order(y)[seq_len(i - 1)]
    now <- order(y)[i]
    for (other in placed) if (abs(x[now] - x[other]) < (width[now] + width[other]) / 2 && y[now] - y[other] < height) y[now] <- y[other] + height
  }
  y
}

shortened <- function(texts, most) ifelse(nchar(texts) > most, paste0(substr(texts, 1, most - 1), "…"), texts)

p_text <- function(p) if (is.na(p)) "p not defined" else if (p < 0.0001) sprintf("p = %.1e", p) else sprintf("p = %.4f", p)
