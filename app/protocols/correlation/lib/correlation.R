# Coefficient, p, confidence interval and regression line; of all pairs and of each group.

# list(x, y = names of columns, data = data.frame(x, y, group)); rows with a missing value are left out.
pairs_of <- function(table, parameters) {
  free <- setdiff(number_columns(table), c(parameters$groups, parameters$id, parameters$x, parameters$y))
  x <- if (is.null(parameters$x)) free[1] else parameters$x
  y <- if (is.null(parameters$y)) setdiff(free, x)[1] else parameters$y
  if (is.na(x) || is.na(y)) inapplicable("Two columns of numbers are needed: name them with 'x' and 'y'.")
  data <- data.frame(x = numbers(table, x), y = numbers(table, y), group = groups_of(table, parameters$groups))
  whole <- stats::complete.cases(data)
  if (!all(whole)) say("%d rows with a missing value are left out", sum(!whole))
  data <- droplevels(data[whole, ])
  if (nrow(data) < 3) inapplicable("Only %d rows have both values: a correlation needs 3.", nrow(data))
  list(x = x, y = y, data = data)
}

correlations <- function(data, parameters) {
  all <- correlation_of("all", data, parameters)
  if (nlevels(data$group) < 2) return(all)
  parts <- lapply(levels(data$group), function(group) correlation_of(group, data[data$group == group, ], parameters))
  do.call(rbind, c(list(all), parts))
}

# NA where the group is too small or one of its columns is constant.
correlation_of <- function(group, data, parameters) {
  row <- data.frame(group = group, n = nrow(data), method = parameters$method, coef = NA_real_, p_value = NA_real_,
                    coef_low = NA_real_, coef_high = NA_real_, slope = NA_real_, intercept = NA_real_, r_squared = NA_real_)
  if (nrow(data) < 3 || length(unique(data$x)) < 2 || length(unique(data$y)) < 2) return(row)
  # With ties the exact p of ranks does not exist; R then takes the approximation and says so.
  test <- suppressWarnings(stats::cor.test(data$x, data$y, method = parameters$method, conf.level = parameters$confidence))
  row[c("coef", "p_value")] <- c(test$estimate, test$p.value)
  if (!is.null(test$conf.int)) row[c("coef_low", "coef_high")] <- test$conf.int
  row[c("slope", "intercept", "r_squared")] <- line_through(data$x, data$y)
  row
}

# Least squares: slope, intercept, share of the variance explained.
line_through <- function(x, y) {
  slope <- stats::cov(x, y) / stats::var(x)
  c(slope, mean(y) - slope * mean(x), stats::cor(x, y)^2)
}
