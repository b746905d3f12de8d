# Values by feature and group, and the figures of each box.

MAX_FEATURES <- 12

# list(values = rows × features, transformed; group = factor).
features_and_groups <- function(table, parameters) {
  columns <- group_columns(table, parameters$groups, parameters$id)
  asked <- parameters$features
  if (!length(asked)) asked <- utils::head(setdiff(number_columns(table), c(columns, parameters$id)), MAX_FEATURES)
  values <- number_matrix(table, asked)
  group <- groups_of(table, columns)
  kept <- !is.na(group)
  list(values = transformed(values[kept, , drop = FALSE], parameters$transformation), group = droplevels(group[kept]),
       columns = columns)
}

transformed <- function(values, name) {
  if (name == "none") return(values)
  low <- if (name == "sqrt") values < 0 else values <= 0
  bad <- which(low, arr.ind = TRUE)
  if (nrow(bad)) {
    inapplicable("Column '%s' has the value %g: there is no %s of it. Choose another transformation.",
                 colnames(values)[bad[1, 2]], values[bad][1], name)
  }
  list(log2 = log2, log10 = log10, sqrt = sqrt)[[name]](values)
}

# Quartiles interpolate as NumPy does; whiskers end at the last value within 1.5 times the box.
boxes_of <- function(data) {
  parts <- lapply(colnames(data$values), function(feature) {
    do.call(rbind, lapply(levels(data$group), function(group) {
      values <- data$values[data$group == group, feature]
      cbind(data.frame(feature = feature, group = group), box_of(values[!is.na(values)]))
    }))
  })
  do.call(rbind, parts)
}

box_of <- function(values) {
  if (!length(values)) return(data.frame(n = 0L, mean = NA, sd = NA, l_wsk = NA, l_qrt = NA, median = NA, u_qrt = NA, u_wsk = NA, outliers = 0L))
  q <- stats::quantile(values, c(0.25, 0.5, 0.75), names = FALSE)
  fence <- c(q[1], q[3]) + c(-1.5, 1.5) * (q[3] - q[1])
  inside <- values[values >= fence[1] & values <= fence[2]]
  data.frame(n = length(values), mean = mean(values), sd = stats::sd(values), l_wsk = min(inside), l_qrt = q[1], median = q[2],
             u_qrt = q[3], u_wsk = max(inside), outliers = length(values) - length(inside))
}
