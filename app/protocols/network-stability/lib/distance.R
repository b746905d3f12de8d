# Distances between two undirected networks on the same nodes, weights in [0, 1].
#
# Hamming: the mean difference of the weights. Ipsen-Mikhailov: the networks as systems of N unit
# masses joined by springs; the L2 distance of their spectral densities. HIM: both in one.
#   M. Ipsen, A. S. Mikhailov: Evolutionary reconstruction of networks. Phys. Rev. E 66, 046109 (2002)
#   G. Jurman, R. Visintainer, M. Filosi, S. Riccadonna, C. Furlanello: The HIM glocal metric and
#   kernel for network comparison and classification. IEEE DSAA (2015), arXiv:1201.2931

him_distance <- function(a, b, xi = 1, gamma = NULL) {
  stopifnot(dim(a) == dim(b), nrow(a) >= 2)
  if (is.null(gamma)) gamma <- solve_gamma(nrow(a))
  hamming <- hamming_distance(a, b)
  im <- im_distance(frequencies(a), frequencies(b), gamma)
  list(hamming = hamming, im = im, him = sqrt((hamming^2 + xi * im^2) / (1 + xi)), gamma = gamma, xi = xi)
}

hamming_distance <- function(a, b) {
  n <- nrow(a)
  off_diagonal <- row(a) != col(a)
  sum(abs(a - b)[off_diagonal]) / (n * (n - 1))
}

# The N - 1 frequencies: square roots of the Laplacian's eigenvalues but the one that is always 0.
frequencies <- function(weights) {
  laplacian <- diag(rowSums(weights), nrow(weights)) - weights
  values <- eigen(laplacian, symmetric = TRUE, only.values = TRUE)$values
  sqrt(pmax(values[-length(values)], 0))
}

# sqrt of the integral over [0, Inf) of (rho_a - rho_b)^2, where rho(w) = K * sum gamma / ((w - w_i)^2 + gamma^2)
# and K makes its integral 1. Every term has a closed form, so nothing is integrated numerically.
im_distance <- function(a, b, gamma) {
  ka <- normaliser(a, gamma)
  kb <- normaliser(b, gamma)
  square <- ka^2 * overlap(a, a, gamma) - 2 * ka * kb * overlap(a, b, gamma) + kb^2 * overlap(b, b, gamma)
  sqrt(max(square, 0))
}

normaliser <- function(w, gamma) 1 / sum(pi / 2 + atan(w / gamma))

# Sum over all pairs of the integral of gamma^2 / (((w - a)^2 + gamma^2) * ((w - b)^2 + gamma^2)), by partial fractions.
overlap <- function(a, b, gamma) {
  d <- outer(a, b, "-")
  sum_ab <- outer(a, b, "+")
  atans <- pi + outer(atan(a / gamma), atan(b / gamma), "+")
  slope <- sum_ab / outer(rep(1, length(a)), b^2 + gamma^2)
  # log((a^2 + gamma^2) / (b^2 + gamma^2)) / d, which tends to `slope` as d goes to 0.
  logs <- ifelse(abs(d) < 1e-12, slope, log1p(d * slope) / d)
  sum(gamma * (atans + gamma * logs) / (d^2 + 4 * gamma^2))
}

# The gamma that makes the distance from the empty to the complete network of n nodes 1.
solve_gamma <- function(n) {
  empty <- 0
  complete <- sqrt(n)
  # All n - 1 frequencies are alike, so one stands for all of them.
  excess <- function(gamma) im_distance(empty, complete, gamma) - 1
  stats::uniroot(excess, c(1e-4, 10), tol = 1e-14, maxiter = 1000)$root
}
