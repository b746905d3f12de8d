# Fold change against p; genes that differ in colour, the foremost with their names.

draw_volcano <- function(found, classes, parameters) {
  found <- found[!is.na(found$p_value), ]
  # A p of 0 would lie at infinity.
  y <- -log10(pmax(found$p_value, .Machine$double.xmin))
  x <- found$log_fold_change
  colours <- c(higher = COLOURS[2], lower = COLOURS[1], none = "#94A3B8")
  labels <- sprintf(c("higher in %s (%d)", "lower in %s (%d)"), classes[2], c(sum(found$change == "higher"), sum(found$change == "lower")))
  labels <- c(labels, sprintf("no difference (%d)", sum(found$change == "none")))
  picture("volcano", height = 8, draw = function() {
    graphics::par(oma = c(legend_lines(labels), 0, 0, 0))
    reach <- max(abs(x), 1e-9) * 1.25
    axes(c(-reach, reach), c(0, max(y) * 1.06), sprintf("log2 fold change (%s against %s)", classes[2], classes[1]), "-log10 p",
         sprintf("%s against %s", classes[2], classes[1]),
         sprintf("%d genes; coloured: false discovery rate up to %g, |log2 fold change| from %g", nrow(found), parameters$fdr, parameters$fold))
    if (parameters$fold > 0) graphics::abline(v = c(-1, 1) * parameters$fold, col = FAINT, lty = 3)
    size <- if (nrow(found) > 2000) 0.8 else 1.1
    draw <- function(which) graphics::points(x[which], y[which], pch = 21, bg = faded(colours, 0.65)[match(found$change[which], names(colours))], col = NA, cex = size)
    draw(found$change == "none")
    draw(found$change != "none")
    name_points(x, y, found)
    legend_below(labels, unname(colours), rep(21, 3))
  })
}

name_points <- function(x, y, found) {
  foremost <- utils::head(which(found$change != "none"), 15)
  if (!length(foremost)) return(invisible())
  names <- shortened(found$gene[foremost], 16)
  half <- graphics::strwidth(names, cex = 0.75) / 2
  usr <- graphics::par("usr")
  side <- sign(x[foremost])
  at <- pmin(pmax(x[foremost] + side * (half + 0.012 * diff(usr[1:2])), usr[1] + half), usr[2] - half)
  graphics::text(at, spread_out(at, y[foremost], names, 0.75), names, cex = 0.75)
}
