# Features (columns of the observations) in the order of what they tell, and the order in which they are drawn.

ranking_of <- function(data, method) {
  x <- data$values
  if (method == "limma") return(by_limma(data))
  score <- switch(method,
    variance = apply(x, 2, stats::var), mean = colMeans(x), median = apply(x, 2, stats::median), mad = apply(x, 2, stats::mad)
  )
  in_order(data, score)
}

in_order <- function(data, score, more = NULL) {
  order <- order(-score, colnames(data$values))
  x <- data$values[, order, drop = FALSE]
  found <- data.frame(rank = seq_along(order), feature = colnames(x), score = score[order], mean = colMeans(x), sd = apply(x, 2, stats::sd), row.names = NULL)
  if (!is.null(more)) found <- cbind(found, more[order, ])
  if (nlevels(data$group) > 1) {
    for (group in levels(data$group)) found[[paste("mean of", group)]] <- colMeans(x[data$group == group, , drop = FALSE])
  }
  found
}

# Moderated F of the groups' differences (of two groups it is the square of the moderated t).
by_limma <- function(data) {
  if (!requireNamespace("limma", quietly = TRUE)) inapplicable("Ranking by limma needs the R package limma: ask your admin for r-bioc-limma on the workers.")
  group <- data$group
  if (nlevels(group) < 2) inapplicable("Ranking by limma compares groups; here is one. Choose a column for the groups, or another ranking.")
  if (nrow(data$values) <= nlevels(group)) inapplicable("Ranking by limma needs more samples than groups; here are %d and %d.", nrow(data$values), nlevels(group))
  fit <- limma::eBayes(limma::lmFit(t(data$values), stats::model.matrix(~group)))
  found <- limma::topTable(fit, coef = seq_len(nlevels(group))[-1], number = Inf, sort.by = "none")
  score <- if (nlevels(group) == 2) found$t^2 else found$F
  in_order(data, score, data.frame(p_value = found$P.Value, p_adjusted = found$adj.P.Val, row.names = NULL))
}

# list(values = features × samples in drawing order, columns = their places in the data, tree of the samples or NULL).
arranged <- function(values, group, parameters) {
  if (parameters$scale) {
    deviation <- apply(values, 1, stats::sd)
    values <- (values - rowMeans(values)) / ifelse(deviation > 0, deviation, 1)
  }
  rows <- if (parameters$cluster_rows && nrow(values) > 2) stats::hclust(stats::dist(values), "average")$order else seq_len(nrow(values))
  tree <- if (parameters$cluster_columns && ncol(values) > 2) stats::hclust(stats::dist(t(values)), "average")
  columns <- if (is.null(tree)) order(group) else tree$order
  list(values = values[rows, columns, drop = FALSE], columns = columns, tree = tree)
}
