# The genes that differ most: Welch's t by multtest, two-sided p with Satterthwaite's degrees of
# freedom, adjusted for the false discovery rate (Benjamini and Hochberg).

genes_that_differ <- function(data, count) {
  x <- data$expression
  second <- as.integer(data$labels == data$classes[2])
  moments <- lapply(0:1, function(group) class_moments(x[, second == group, drop = FALSE]))
  usable <- which(moments[[1]]$error + moments[[2]]$error > 0)
  if (length(usable) < 3) inapplicable("Fewer than 3 genes vary: there is no network to infer.")

  t <- multtest::mt.teststat(x[usable, , drop = FALSE], second, test = "t")
  p <- 2 * stats::pt(-abs(t), welch_df(moments, usable))
  adjusted <- multtest::mt.rawp2adjp(p, "BH")
  q <- adjusted$adjp[order(adjusted$index), "BH"]

  best <- order(-abs(t), usable)[seq_len(min(count, length(usable)))]
  row <- usable[best]
  table <- data.frame(rank = seq_along(best), gene = rownames(x)[row], row = row, t = t[best], p = p[best], q = q[best])
  for (i in 1:2) table[[paste0("mean_", data$classes[i])]] <- moments[[i]]$mean[row]
  table$description <- if (is.null(data$names)) "" else data$names[row]
  table
}

class_moments <- function(x) {
  n <- ncol(x)
  mean <- rowMeans(x)
  list(n = n, mean = mean, error = rowSums((x - mean)^2) / (n - 1) / n)
}

welch_df <- function(moments, rows) {
  a <- moments[[1]]$error[rows]
  b <- moments[[2]]$error[rows]
  (a + b)^2 / (a^2 / (moments[[1]]$n - 1) + b^2 / (moments[[2]]$n - 1))
}
