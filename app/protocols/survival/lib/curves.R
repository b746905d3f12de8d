# Kaplan-Meier and Nelson-Aalen by the package survival, medians, log-rank test.

fit_curves <- function(data, parameters) {
  survival::survfit(survival::Surv(time, event) ~ group, data = data, conf.int = parameters$confidence, conf.type = "log-log")
}

# A row for each step, and one at time 0; `estimate` is the share without the event, or the cumulative hazard.
curve_table <- function(fit, data, parameters) {
  count <- if (is.null(fit$strata)) length(fit$time) else fit$strata
  group <- rep(levels(data$group), count)
  hazard <- parameters$estimator == "nelson-aalen"
  bounds <- if (hazard) hazard_bounds(fit, group, parameters$confidence) else list(estimate = fit$surv, lower = fit$lower, upper = fit$upper)
  steps <- data.frame(group = group, time = fit$time, at_risk = fit$n.risk, events = fit$n.event, censored = fit$n.censor, bounds)
  start <- data.frame(group = levels(data$group), time = 0, at_risk = as.integer(table(data$group)), events = 0, censored = 0,
                      estimate = if (hazard) 0 else 1, lower = if (hazard) 0 else 1, upper = if (hazard) 0 else 1)
  start <- start[!start$group %in% steps$group[steps$time == 0], ]
  found <- rbind(start, steps)
  found[order(match(found$group, levels(data$group)), found$time), ]
}

# Nelson and Aalen's sum of events / at risk; its variance is the sum of events / at risk^2, the interval is on the log scale.
hazard_bounds <- function(fit, group, confidence) {
  hazard <- stats::ave(fit$n.event / fit$n.risk, group, FUN = cumsum)
  error <- sqrt(stats::ave(fit$n.event / fit$n.risk^2, group, FUN = cumsum))
  factor <- exp(stats::qnorm((1 + confidence) / 2) * ifelse(hazard > 0, error / hazard, 0))
  list(estimate = hazard, lower = hazard / factor, upper = hazard * factor)
}

summary_table <- function(fit, data) {
  medians <- stats::quantile(fit, 0.5)
  data.frame(group = levels(data$group), n = as.integer(table(data$group)), events = as.integer(tapply(data$event, data$group, sum)),
             median = as.numeric(medians$quantile), median_low = as.numeric(medians$lower), median_high = as.numeric(medians$upper))
}

# Do the curves differ? NULL with one group.
log_rank <- function(data) {
  if (nlevels(data$group) < 2) return(NULL)
  found <- survival::survdiff(survival::Surv(time, event) ~ group, data = data)
  df <- nlevels(data$group) - 1
  data.frame(test = "log-rank", chi_square = found$chisq, df = df, p_value = stats::pchisq(found$chisq, df, lower.tail = FALSE))
}
