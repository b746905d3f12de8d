# Left the table of distances as tiles, right the networks in a plane where near ones are alike.

TITLES <- c(HIM = "HIM distance", IM = "Ipsen-Mikhailov distance", H = "Hamming distance")
NUMBERED <- 14

draw_distances <- function(distances, place, measure) {
  both <- !is.null(place)
  picture("distances", width = if (both) 13 else 7.5, height = 6.8, draw = function() {
    if (both) graphics::layout(matrix(1:2, 1))
    graphics::par(cex = 1)
    draw_tiles(distances, measure)
    if (both) draw_map(place, measure)
  })
}

draw_tiles <- function(distances, measure) {
  count <- nrow(distances)
  names <- shortened(rownames(distances), 14)
  graphics::par(mar = c(6.2, 7.5, 3.4, 1))
  graphics::plot.new()
  graphics::plot.window(c(0.5, count + 0.5), c(count + 0.5, 0.5))
  heading(TITLES[[measure]], "0: alike; 1: as far as the empty from the complete network")
  ramp <- grDevices::hcl.colors(101, "Blues 3", rev = TRUE)
  top <- max(distances, 1e-9)
  for (i in seq_len(count)) {
    graphics::rect(seq_len(count) - 0.5, i - 0.5, seq_len(count) + 0.5, i + 0.5, col = ramp[1 + round(100 * distances[i, ] / top)], border = "white")
    if (count <= NUMBERED) graphics::text(seq_len(count), i, sprintf("%.3f", distances[i, ]), cex = 0.8, col = ifelse(distances[i, ] > 0.55 * top, "white", INK))
  }
  if (count <= 60) {
    graphics::axis(2, seq_len(count), names, tick = FALSE, line = -0.6, gap.axis = -1, cex.axis = if (count > 25) 0.6 else 0.9)
    graphics::text(seq_len(count), count + 0.6, names, srt = 45, adj = c(1, 1), xpd = NA, cex = if (count > 25) 0.55 else 0.85)
  }
}

draw_map <- function(place, measure) {
  graphics::par(mar = c(4.2, 4.6, 3.4, 1.2))
  centre <- apply(apply(place, 2, range), 2, mean)
  reach <- 1.15 * max(apply(place, 2, function(axis) diff(range(axis))), 1e-9) / 2
  axes(centre[1] + c(-reach, reach), centre[2] + c(-reach, reach), title = "Networks in the plane", subtitle = "multidimensional scaling: near ones are alike")
  graphics::points(place, pch = 21, bg = COLOURS[1], col = "white", cex = 1.8)
  if (nrow(place) > 40) return(invisible())
  names <- shortened(rownames(place), 18)
  left <- place[, 1] > centre[1] + 0.7 * reach
  x <- place[, 1] + ifelse(left, -1, 1) * (graphics::strwidth(names, cex = 0.85) / 2 + 0.045 * reach)
  graphics::text(x, spread_out(x, place[, 2], names, 0.85), names, cex = 0.85)
}
