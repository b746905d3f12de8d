# Stability indicators of an inferred network: M. Filosi, R. Visintainer, S. Riccadonna, G. Jurman, C. Furlanello: Stability
# indicators in network reconstruction. PLoS ONE 9, e89815 (2014).
#   S: distances from the network of all data to those of the resamplings. SI: distances among the latter.
#   Sw, Sd: how far an edge's weight, a node's degree ranges over the resamplings, divided by its mean.

LEAST <- 4
MOST <- 500

# The observations of each resampling.
resamplings <- function(count, parameters) {
  k <- parameters$k
  if (count < k && parameters$resmethods != "LOO") inapplicable("%d observations can't be cut into %d parts.", count, k)
  samples <- switch(parameters$resmethods,
    # All but one k-th, drawn anew each time.
    montecarlo = lapply(seq_len(parameters$h), function(i) sort(sample(count, floor(count * (1 - 1 / k))))),
    kCV = unlist(lapply(seq_len(parameters$h), function(i) folds(count, k)), recursive = FALSE),
    LOO = lapply(seq_len(count), function(i) seq_len(count)[-i])
  )
  if (min(lengths(samples)) < LEAST) {
    inapplicable("A resampling has %d of the %d observations: a network needs %d.", min(lengths(samples)), count, LEAST)
  }
  if (length(samples) > MOST) inapplicable("These are %d resamplings; up to %d are compared. Choose smaller h or k.", length(samples), MOST)
  samples
}

# k times all but one of k parts.
folds <- function(count, k) {
  part <- sample(rep_len(seq_len(k), count))
  lapply(seq_len(k), function(i) which(part != i))
}

stability_of <- function(whole, networks, parameters) {
  gamma <- if (is.null(parameters$ga)) solve_gamma(nrow(whole)) else parameters$ga
  spectra <- lapply(networks, frequencies)
  distance <- function(a, b, of_a, of_b) {
    hamming <- hamming_distance(a, b)
    if (parameters$distance == "H") return(hamming)
    im <- im_distance(of_a, of_b, gamma)
    if (parameters$distance == "IM") im else sqrt((hamming^2 + parameters$rho * im^2) / (1 + parameters$rho))
  }
  of_whole <- frequencies(whole)
  count <- length(networks)
  pairs <- if (count > 1) utils::combn(count, 2) else matrix(0L, 2, 0)
  upper <- upper.tri(whole)
  weights <- matrix(vapply(networks, function(network) network[upper], numeric(sum(upper))), ncol = count)
  degrees <- matrix(vapply(networks, rowSums, numeric(nrow(whole))), ncol = count)
  list(
    s = vapply(seq_len(count), function(i) distance(whole, networks[[i]], of_whole, spectra[[i]]), 0),
    si = data.frame(first = pairs[1, ], second = pairs[2, ], distance = vapply(seq_len(ncol(pairs)), function(p) {
      i <- pairs[1, p]
      j <- pairs[2, p]
      distance(networks[[i]], networks[[j]], spectra[[i]], spectra[[j]])
    }, 0)),
    sd = data.frame(node = rownames(whole), ranged(degrees), degree = rowSums(whole)),
    sw = edges_ranged(whole, upper, weights)
  )
}

# Range / mean of each row; 0 where all is 0.
ranged <- function(values) {
  mean <- rowMeans(values)
  low <- apply(values, 1, min)
  high <- apply(values, 1, max)
  data.frame(stability = ifelse(mean > 0, (high - low) / mean, 0), mean = mean, min = low, max = high)
}

edges_ranged <- function(whole, upper, weights) {
  at <- which(upper, arr.ind = TRUE)
  found <- data.frame(from = rownames(whole)[at[, 1]], to = rownames(whole)[at[, 2]], ranged(weights), weight = whole[upper])
  found <- found[found$max > 0 | found$weight > 0, ]
  found[order(found$stability, -found$mean), ]
}

write_stability <- function(found, whole) {
  write_matrix(whole, "adjacency.csv")
  write_csv(data.frame(resampling = seq_along(found$s), distance = found$s), "S.csv")
  write_csv(found$si, "SI.csv")
  write_csv(found$sd[order(found$sd$stability), ], "Sd.csv")
  write_csv(found$sw, "Sw.csv")
  values <- list(S = found$s, SI = found$si$distance, Sd = found$sd$stability, Sw = found$sw$stability)
  figures <- lapply(names(values), function(name) cbind(data.frame(indicator = name), figures_of(values[[name]])))
  write_csv(do.call(rbind, figures), "summary.csv")
}

figures_of <- function(values) {
  if (!length(values)) return(data.frame(count = 0L, mean = NA, sd = NA, min = NA, median = NA, max = NA))
  data.frame(count = length(values), mean = mean(values), sd = stats::sd(values), min = min(values), median = stats::median(values), max = max(values))
}
