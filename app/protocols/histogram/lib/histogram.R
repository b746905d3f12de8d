# Counts in bins that all groups share, a smooth density, and a summary of each group.

MAX_BINS <- 200

# list(column, data = data.frame(value, group)); rows without a value are left out.
values_of <- function(table, parameters) {
  name <- parameters$column
  if (is.null(name)) name <- setdiff(number_columns(table), c(parameters$groups, parameters$id))[1]
  if (is.na(name)) inapplicable("The table has no column of numbers.")
  data <- data.frame(value = numbers(table, name), group = groups_of(table, parameters$groups))
  data <- droplevels(data[stats::complete.cases(data), ])
  if (nrow(data) < 2) inapplicable("Column '%s' has %d values: a histogram needs 2.", name, nrow(data))
  list(column = name, data = data)
}

# Equal bins from the least to the largest value. Without a number: Freedman and Diaconis' rule.
breaks_of <- function(values, bins) {
  ends <- range(values)
  if (ends[1] == ends[2]) ends <- ends + c(-0.5, 0.5)
  count <- if (is.null(bins)) min(max(grDevices::nclass.FD(values), 1), MAX_BINS) else bins
  seq(ends[1], ends[2], length.out = count + 1)
}

# A bin has its lower end; the last one has its upper end, too.
counts_of <- function(data, breaks) {
  last <- length(breaks) - 1
  parts <- lapply(levels(data$group), function(group) {
    values <- data$value[data$group == group]
    count <- tabulate(findInterval(values, breaks, rightmost.closed = TRUE, all.inside = TRUE), last)
    data.frame(group = group, low = breaks[-length(breaks)], high = breaks[-1], count = count,
               density = count / length(values) / diff(breaks))
  })
  do.call(rbind, parts)
}

# Gaussian kernels of the width sd × n^(-1/5) × factor (Scott's rule times a factor, as SciPy has it).
curves_of <- function(data, factor) {
  parts <- lapply(levels(data$group), function(group) {
    values <- data$value[data$group == group]
    width <- stats::sd(values) * length(values)^(-1 / 5) * factor
    if (length(values) < 2 || width == 0) return(NULL)
    at <- seq(min(values) - 3 * width, max(values) + 3 * width, length.out = 256)
    data.frame(group = group, x = at, density = vapply(at, function(x) mean(stats::dnorm(x, values, width)), 0))
  })
  found <- do.call(rbind, parts)
  if (is.null(found)) data.frame(group = character(), x = numeric(), density = numeric()) else found
}

summaries_of <- function(data) {
  parts <- lapply(levels(data$group), function(group) {
    values <- data$value[data$group == group]
    quartiles <- stats::quantile(values, c(0.25, 0.5, 0.75), names = FALSE)
    data.frame(group = group, n = length(values), mean = mean(values), sd = stats::sd(values), min = min(values),
               q1 = quartiles[1], median = quartiles[2], q3 = quartiles[3], max = max(values))
  })
  do.call(rbind, parts)
}
