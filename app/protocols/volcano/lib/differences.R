# Differences of the second class from the first: limma's moderated t (G. K. Smyth 2004; voom for counts, C. W. Law et al. 2014),
# or Welch's t gene by gene.

differences <- function(data, parameters) {
  second <- as.integer(data$class == data$classes[2])
  if (parameters$values == "counts") {
    data <- counted(data, parameters$min_total_row_count)
    if (parameters$ranking_method == "welch") data$values <- log2_per_million(data$values)
  }
  found <- if (parameters$ranking_method == "welch") by_welch(data$values, second) else by_limma(data$values, second, parameters$values == "counts")
  order <- order(found$p_value, -abs(found$log_fold_change), rownames(data$values))
  cbind(data.frame(rank = seq_along(order), gene = rownames(data$values)[order]), found[order, ], description = data$names[order], row.names = NULL)
}

# Genes with enough counts over all samples.
counted <- function(data, least) {
  if (any(data$values < 0)) inapplicable("Counts are not negative: is this expression on a log scale? Choose 'log' for the values.")
  kept <- rowSums(data$values) >= max(least, 1)
  say("%d genes with fewer than %d counts are left out", sum(!kept), max(least, 1))
  if (sum(kept) < 2) inapplicable("Only %d genes have %d counts or more.", sum(kept), max(least, 1))
  data$values <- data$values[kept, , drop = FALSE]
  data$names <- data$names[kept]
  data
}

log2_per_million <- function(counts) log2(t((t(counts) + 0.5) / (colSums(counts) + 1)) * 1e6)

by_limma <- function(values, second, counts) {
  design <- cbind(all = 1, second = second)
  fit <- limma::eBayes(limma::lmFit(if (counts) limma::voom(values, design) else values, design))
  found <- limma::topTable(fit, coef = "second", number = Inf, sort.by = "none")
  data.frame(log_fold_change = found$logFC, mean = found$AveExpr, t = found$t, p_value = found$P.Value, p_adjusted = found$adj.P.Val, log_odds = found$B)
}

by_welch <- function(values, second) {
  parts <- lapply(0:1, function(class) values[, second == class, drop = FALSE])
  means <- lapply(parts, rowMeans)
  errors <- lapply(1:2, function(i) rowSums((parts[[i]] - means[[i]])^2) / (ncol(parts[[i]]) - 1) / ncol(parts[[i]]))
  both <- errors[[1]] + errors[[2]]
  t <- ifelse(both > 0, (means[[2]] - means[[1]]) / sqrt(both), NA)
  df <- both^2 / (errors[[1]]^2 / (ncol(parts[[1]]) - 1) + errors[[2]]^2 / (ncol(parts[[2]]) - 1))
  p <- 2 * stats::pt(-abs(t), df)
  data.frame(log_fold_change = means[[2]] - means[[1]], mean = rowMeans(values), t = t, p_value = p, p_adjusted = stats::p.adjust(p, "BH"), log_odds = NA)
}

# "higher" or "lower" in the second class where both bounds are reached.
change_of <- function(found, parameters) {
  differs <- !is.na(found$p_adjusted) & found$p_adjusted <= parameters$fdr & abs(found$log_fold_change) >= parameters$fold
  ifelse(differs, ifelse(found$log_fold_change > 0, "higher", "lower"), "none")
}
