# Curves as steps with their intervals, a tick for each censored time, and below them how many are at risk.

draw_survival <- function(curves, data, test, parameters) {
  groups <- levels(data$group)
  hazard <- parameters$estimator == "nelson-aalen"
  title <- if (hazard) "Cumulative hazard (Nelson-Aalen)" else "Share without the event (Kaplan-Meier)"
  under <- sprintf("n = %d, %d events, %g%% intervals%s", nrow(data), sum(data$event), 100 * parameters$confidence,
                   if (is.null(test)) "" else paste0("; log-rank ", p_text(test$p_value)))
  unit <- if (nzchar(parameters$unit)) sprintf("%s (%s)", parameters$time, parameters$unit) else parameters$time
  several <- length(groups) > 1
  rows <- length(groups) + 1
  picture("survival", height = 5.6 + 0.24 * rows + 0.2 * several * legend_lines(groups), draw = function() {
    graphics::par(mar = c(5.2 + 1.15 * rows, 8.2, 3.2, 1.2), oma = c(if (several) legend_lines(groups) else 0, 0, 0, 0))
    top <- if (hazard) max(curves$estimate) * 1.3 else 1
    axes(c(0, max(curves$time)), c(0, top), unit, if (hazard) "cumulative hazard" else "share without the event", title, under)
    colours <- group_colours(length(groups))
    for (i in seq_along(groups)) draw_interval(curves[curves$group == groups[i], ], colours[i], top)
    for (i in seq_along(groups)) draw_curve(curves[curves$group == groups[i], ], colours[i])
    draw_at_risk(groups, data, colours)
    if (several) legend_below(groups, colours, lines = TRUE)
  })
}

# The steps of a curve as points; the last value holds until the end.
steps <- function(time, value) list(x = rep(time, each = 2)[-1], y = utils::head(rep(value, each = 2), -1))

draw_interval <- function(curve, colour, top) {
  curve <- curve[!is.na(curve$lower) & !is.na(curve$upper), ]
  if (nrow(curve) < 2) return(invisible())
  low <- steps(curve$time, pmin(curve$lower, top))
  high <- steps(curve$time, pmin(curve$upper, top))
  graphics::polygon(c(low$x, rev(high$x)), c(low$y, rev(high$y)), col = faded(colour, 0.13), border = NA)
}

draw_curve <- function(curve, colour) {
  line <- steps(curve$time, curve$estimate)
  graphics::lines(line$x, line$y, col = colour, lwd = 2.5)
  ticks <- curve[curve$censored > 0, ]
  graphics::points(ticks$time, ticks$estimate, pch = 3, cex = 0.8, lwd = 1.5, col = colour)
}

draw_at_risk <- function(groups, data, colours) {
  at <- graphics::axTicks(1)
  graphics::mtext("at risk", side = 1, line = 4, adj = 1, at = graphics::par("usr")[1], font = 2, cex = 0.9)
  for (i in seq_along(groups)) {
    count <- vapply(at, function(time) sum(data$time[data$group == groups[i]] >= time), 0L)
    line <- 4 + 1.15 * i
    graphics::mtext(paste0(shortened(groups[i], 16), "   "), side = 1, line = line, at = graphics::par("usr")[1], adj = 1, cex = 0.9, col = colours[i])
    graphics::mtext(count, side = 1, line = line, at = at, cex = 0.9)
  }
}
