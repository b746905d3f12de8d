# Networks from data: values (observations × columns) → weights, symmetric, in [0, 1], diagonal 0.
#   bicor, TOM, soft threshold: B. Zhang, S. Horvath, Stat. Appl. Genet. Mol. Biol. 4, 17 (2005); P. Langfelder, S. Horvath,
#     J. Stat. Softw. 46(11) (2012)
#   ARACNE: A. A. Margolin et al., BMC Bioinformatics 7, S7 (2006); CLR: J. J. Faith et al., PLoS Biol. 5, e8 (2007)
#   MINE: D. N. Reshef et al., Science 334, 1518 (2011); DTW-MIC: S. Riccadonna et al., PLoS ONE 11, e0152648 (2016)

infer <- function(values, parameters, tell = function(share) NULL) {
  score <- switch(sub("FDR$", "", parameters$method),
    cor = absolute_correlation,
    WGCNA = function(x) absolute_correlation(x)^parameters$p,
    bicor = function(x) abs(bicor(x)),
    TOM = function(x) topological_overlap(absolute_correlation(x)^parameters$p),
    ARACNE = function(x) aracne(mutual_information(x)),
    CLR = function(x) clr(mutual_information(x)),
    MINE = function(x) mine_score(x, parameters),
    DTWMIC = function(x) dtw_mic(x, parameters)
  )
  weights <- cleaned(score(values), colnames(values))
  if (grepl("FDR$", parameters$method)) weights <- beyond_chance(values, weights, score, parameters$fdr, tell)
  weights
}

cleaned <- function(weights, names) {
  weights[!is.finite(weights)] <- 0
  weights[] <- pmin(1, pmax(0, weights))
  diag(weights) <- 0
  dimnames(weights) <- list(names, names)
  weights
}

# Edges whose weight is reached by none of 1 / fdr shufflings (each column by itself) of the data; the others become 0.
beyond_chance <- function(values, weights, score, fdr, tell) {
  rounds <- ceiling(1 / fdr - 1e-9)
  kept <- weights > 0
  for (round in seq_len(rounds)) {
    shuffled <- apply(values, 2, sample)
    kept <- kept & weights > cleaned(score(shuffled), colnames(values))
    if (round %% ceiling(rounds / 20) == 0) tell(round / rounds)
  }
  weights * kept
}

# A constant column has no correlation, hence no edge.
correlation <- function(values, method = "pearson") {
  found <- suppressWarnings(stats::cor(values, method = method))
  found[is.na(found)] <- 0
  found
}

absolute_correlation <- function(values) abs(correlation(values))

# Biweight midcorrelation; a column without a median absolute deviation goes in as for Pearson's correlation.
bicor <- function(values) {
  unit <- apply(values, 2, function(x) {
    centre <- stats::median(x)
    spread <- stats::median(abs(x - centre))
    part <- if (spread == 0) x - mean(x) else (x - centre) * weight_of((x - centre) / (9 * spread))
    length <- sqrt(sum(part^2))
    if (length == 0) part else part / length
  })
  crossprod(unit)
}

weight_of <- function(u) ifelse(abs(u) < 1, (1 - u^2)^2, 0)

topological_overlap <- function(a) {
  diag(a) <- 0
  degree <- rowSums(a)
  (a %*% a + a) / (outer(degree, degree, pmin) + 1 - a)
}

# Of normally distributed ranks, from Spearman's correlation; bounded where two columns have the same order.
mutual_information <- function(values) {
  information <- -0.5 * log(1 - pmin(correlation(values, "spearman")^2, 1 - 1e-9))
  diag(information) <- 0
  information
}

# Of every three nodes the weakest edge goes. Weights are relative to the largest.
aracne <- function(information) {
  weak <- matrix(FALSE, nrow(information), ncol(information))
  for (k in seq_len(nrow(information))) {
    weak <- weak | information < outer(information[, k], information[, k], pmin) - 1e-12
  }
  relative(information * !weak)
}

# How far a pair stands out of what each of both shares with all others. Weights are relative to the largest.
clr <- function(information) {
  others <- information
  diag(others) <- NA
  deviation <- apply(others, 1, stats::sd, na.rm = TRUE)
  z <- pmax((others - rowMeans(others, na.rm = TRUE)) / ifelse(deviation > 0, deviation, Inf), 0)
  relative(sqrt(z^2 + t(z)^2))
}

relative <- function(weights) {
  diag(weights) <- 0
  if (max(weights) > 0) weights / max(weights) else weights
}

# The package minerva; MCN, which exceeds 1, is relative to the largest.
mine_score <- function(values, parameters) {
  if (!requireNamespace("minerva", quietly = TRUE)) {
    inapplicable("The method %s needs the R package minerva: ask your admin for r-cran-minerva on the workers.", parameters$method)
  }
  constant <- apply(values, 2, function(x) max(x) == min(x))
  scores <- matrix(0, ncol(values), ncol(values))
  if (sum(!constant) < 2) return(scores)
  found <- minerva::mine(values[, !constant, drop = FALSE], alpha = parameters$alpha, C = parameters$c)[[parameters$measure]]
  scores[!constant, !constant] <- found
  if (parameters$measure == "MCN") relative(scores) else scores
}

# sqrt((D^2 + MIC^2) / 2), D = 1 / (1 + dynamic time warping distance per step).
dtw_mic <- function(values, parameters) {
  mic <- mine_score(values, utils::modifyList(parameters, list(measure = "MIC")))
  similarity <- matrix(0, ncol(values), ncol(values))
  for (i in seq_len(ncol(values))) for (j in seq_len(i - 1)) {
    similarity[i, j] <- similarity[j, i] <- 1 / (1 + dtw(values[, i], values[, j]) / (2 * nrow(values)))
  }
  sqrt((similarity^2 + mic^2) / 2)
}

# The cheapest way through |x - y|, a diagonal step counts twice (Sakoe and Chiba's symmetric form).
dtw <- function(x, y) {
  cost <- abs(outer(x, y, "-"))
  best <- cumsum(cost[1, ])
  for (i in seq_along(x)[-1]) {
    before <- best
    best[1] <- before[1] + cost[i, 1]
    for (j in seq_along(y)[-1]) best[j] <- min(before[j] + cost[i, j], best[j - 1] + cost[i, j], before[j - 1] + 2 * cost[i, j])
  }
  best[length(y)]
}

# The columns that vary most, in their order.
most_varying <- function(values, most) {
  if (ncol(values) <= most) return(values)
  say("of %d columns the %d that vary most are taken", ncol(values), most)
  values[, sort(order(-apply(values, 2, stats::sd))[seq_len(most)]), drop = FALSE]
}
