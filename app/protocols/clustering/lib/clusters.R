# Hierarchical clustering and k-means, how well each number of clusters fits, and agreement with known groups.

MOST <- 5000
TRIED <- 10

prepared <- function(values, scale) {
  if (nrow(values) > MOST) inapplicable("%d observations; up to %d are clustered.", nrow(values), MOST)
  spread <- apply(values, 2, stats::sd)
  if (!any(spread > 0)) inapplicable("All observations are the same: there are no clusters.")
  if (scale) values <- scale(values[, spread > 0, drop = FALSE])
  values
}

# 1 - correlation, or a distance of R's `dist`. k-means has Euclid's.
distances_of <- function(values, parameters) {
  if (parameters$algorithm == "kmeans") return(stats::dist(values))
  if (parameters$distance != "correlation") return(stats::dist(values, parameters$distance))
  if (ncol(values) < 3) inapplicable("Correlations between observations need 3 columns; the table has %d.", ncol(values))
  between <- suppressWarnings(stats::cor(t(values)))
  between[is.na(between)] <- 0
  stats::as.dist(1 - between)
}

# Clusters for each number that is asked for: the given one, or 2 to 10, of which the best mean silhouette is chosen.
try_counts <- function(values, distances, tree, parameters) {
  most <- nrow(unique(values))
  if (!is.null(parameters$k) && parameters$k > most) {
    inapplicable("%d clusters are asked for; only %d observations differ.", parameters$k, most)
  }
  counts <- sort(union(parameters$k, seq_len(min(TRIED, most, nrow(values) - 1))[-1]))
  members <- lapply(counts, function(k) {
    member <- if (is.null(tree)) by_means(values, k, parameters$seed) else stats::cutree(tree, k)
    match(member, names(sort(-table(member))))
  })
  quality <- data.frame(
    k = counts, within_ss = vapply(members, function(member) within_ss(values, member), 0),
    mean_silhouette = vapply(members, function(member) mean(silhouettes(distances, member)), 0)
  )
  best <- if (is.null(parameters$k)) counts[which.max(quality$mean_silhouette)] else parameters$k
  quality$chosen <- ifelse(counts == best, "yes", "no")
  list(members = members, quality = quality)
}

# The best of 25 starts.
by_means <- function(values, k, seed) {
  set.seed(seed)
  stats::kmeans(values, k, iter.max = 200, nstart = 25)$cluster
}

within_ss <- function(values, member) {
  sum(vapply(split(seq_along(member), member), function(rows) sum(scale(values[rows, , drop = FALSE], scale = FALSE)^2), 0))
}

# (b - a) / max(a, b): a the mean distance within the own cluster, b to the nearest other one (Rousseeuw 1987); 0 alone.
silhouettes <- function(distances, member) {
  counts <- tabulate(member)
  sums <- t(rowsum(as.matrix(distances), member))
  own <- cbind(seq_along(member), member)
  a <- sums[own] / pmax(counts[member] - 1, 1)
  other <- sweep(sums, 2, counts, `/`)
  other[own] <- Inf
  b <- apply(other, 1, min)
  widest <- pmax(a, b)
  ifelse(counts[member] == 1 | widest == 0, 0, (b - a) / widest)
}

# Hubert and Arabie's adjusted Rand index: 1 the same partition, about 0 by chance.
adjusted_rand <- function(first, second) {
  counts <- table(first, second)
  pairs <- function(n) sum(n * (n - 1) / 2)
  by_chance <- pairs(rowSums(counts)) * pairs(colSums(counts)) / pairs(sum(counts))
  highest <- (pairs(rowSums(counts)) + pairs(colSums(counts))) / 2
  if (highest == by_chance) return(1)
  (pairs(counts) - by_chance) / (highest - by_chance)
}

write_results <- function(data, values, distances, tree, member, quality) {
  write_csv(data.frame(name = data$names, group = data$group, cluster = member, silhouette = silhouettes(distances, member)), "clusters.csv")
  write_csv(quality, "quality.csv")
  centres <- stats::aggregate(data$values, list(cluster = member), mean)
  write_csv(cbind(centres["cluster"], size = tabulate(member), centres[-1]), "centres.csv")
  if (nlevels(data$group) > 1) {
    counts <- as.data.frame.matrix(table(data$group, member))
    names(counts) <- paste("cluster", names(counts))
    write_csv(data.frame(group = rownames(counts), counts, adjusted_rand = adjusted_rand(data$group, member), check.names = FALSE), "agreement.csv")
  }
  if (!is.null(tree)) write_csv(data.frame(step = seq_along(tree$height), first = tree$merge[, 1], second = tree$merge[, 2], height = tree$height), "merges.csv")
}
