# All networks that were given, and the distances of all pairs.

SLOTS <- paste0("network_", 1:8)
MAX_NETWORKS <- 200

all_networks <- function(names) {
  paths <- stats::setNames(file.path(Sys.getenv("LABFLEET_INPUTS"), SLOTS), SLOTS)
  paths <- paths[file.exists(paths)]
  if (!length(paths)) paths <- c(sample = input_or_sample("network_1"))
  given <- names(paths)
  given[seq_along(names)] <- names[seq_along(names)]
  if (length(names) > length(paths)) wrong_input("There are %d names for %d networks.", length(names), length(paths))
  networks <- unlist(lapply(seq_along(paths), function(i) read_networks(paths[[i]], given[i])), recursive = FALSE)
  if (length(networks) > MAX_NETWORKS) inapplicable("There are %d networks; up to %d are compared.", length(networks), MAX_NETWORKS)
  stats::setNames(networks, make.unique(names(networks)))
}

# Distances are of networks on the same nodes, whatever their order.
on_the_same_nodes <- function(networks) {
  nodes <- rownames(networks[[1]])
  if (length(nodes) < 2) inapplicable("A network of %d node has no distances.", length(nodes))
  for (name in names(networks)) {
    if (setequal(rownames(networks[[name]]), nodes)) next
    lone <- c(setdiff(rownames(networks[[name]]), nodes), setdiff(nodes, rownames(networks[[name]])))
    inapplicable("'%s' and '%s' are not on the same nodes ('%s' is in one of them only).", names(networks)[1], name, lone[1])
  }
  lapply(networks, function(weights) weights[nodes, nodes])
}

with_the_empty_one <- function(networks) {
  if (length(networks) > 1) return(networks)
  say("There is one network only: it is compared with the empty network.")
  c(networks, list(empty = networks[[1]] * 0))
}

# list(pairs = a row for each pair, matrices = by measure).
all_pairs <- function(networks, parameters, tell) {
  gamma <- if (is.null(parameters$ga)) solve_gamma(nrow(networks[[1]])) else parameters$ga
  spectra <- lapply(networks, frequencies)
  count <- length(networks)
  empty <- matrix(0, count, count, dimnames = list(names(networks), names(networks)))
  matrices <- list(hamming = empty, ipsen_mikhailov = empty, him = empty)
  for (i in seq_len(count)[-1]) {
    for (j in seq_len(i - 1)) {
      hamming <- hamming_distance(networks[[i]], networks[[j]])
      im <- im_distance(spectra[[i]], spectra[[j]], gamma)
      values <- c(hamming, im, sqrt((hamming^2 + parameters$rho * im^2) / (1 + parameters$rho)))
      for (m in 1:3) matrices[[m]][i, j] <- matrices[[m]][j, i] <- values[m]
    }
    if (i %% ceiling(count / 10) == 0) tell(i / count)
  }
  list(pairs = pair_table(matrices, parameters), matrices = matrices)
}

pair_table <- function(matrices, parameters) {
  at <- which(upper.tri(matrices$him), arr.ind = TRUE)
  at <- at[order(at[, 1], at[, 2]), , drop = FALSE]
  names <- rownames(matrices$him)
  pairs <- data.frame(first = names[at[, 1]], second = names[at[, 2]], hamming = matrices$hamming[at],
                      ipsen_mikhailov = matrices$ipsen_mikhailov[at], him = matrices$him[at])
  if (parameters$components) return(pairs)
  pairs[c("first", "second", c(H = "hamming", IM = "ipsen_mikhailov", HIM = "him")[[parameters$distance]])]
}

write_matrix_of <- function(distances) {
  table <- data.frame(rownames(distances), distances, check.names = FALSE)
  names(table)[1] <- "network"
  write_csv(table, "distances.csv")
}

# Classical multidimensional scaling into the plane; NULL for fewer than three networks.
scaled <- function(distances) {
  if (nrow(distances) < 3) return(NULL)
  # Networks that are all alike have no directions: R then gives fewer columns, and says so.
  place <- suppressWarnings(stats::cmdscale(distances, k = 2))
  place <- cbind(place, matrix(0, nrow(distances), 2 - ncol(place)))
  # Which way an axis points is chance; here its largest value is positive.
  turned <- apply(place, 2, function(axis) if (axis[which.max(abs(axis))] < 0) -1 else 1)
  place <- sweep(place, 2, turned, `*`)
  dimnames(place) <- list(rownames(distances), c("x", "y"))
  place
}
