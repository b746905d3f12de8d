# Networks as files: a square table of weights with names on both sides, a list of edges (from, to, weight), or
# several lists in one (network, from, to, weight). list(name = weights); weights are symmetric, in [0, 1], diagonal 0.

# The networks of a file; `name` is that of a single one.
read_networks <- function(path, name) {
  read <- read_cells(path)
  head <- tolower(read$cells[1, ])
  if (all(c("from", "to") %in% head)) from_edges(read, head, name) else stats::setNames(list(from_square(read, name)), name)
}

from_edges <- function(read, head, name) {
  if (nrow(read$cells) < 2) inapplicable("The list of edges of '%s' is empty.", name)
  cells <- read$cells[-1, , drop = FALSE]
  weight <- if ("weight" %in% head) weights_of(cells[, match("weight", head)], read$line[-1], name) else rep(1, nrow(cells))
  ends <- cells[, match(c("from", "to"), head), drop = FALSE]
  of <- if ("network" %in% head) cells[, match("network", head)] else rep(name, nrow(cells))
  # Networks of one list are on the same nodes, those without an edge included.
  nodes <- unique(c(t(ends)))
  lapply(split(seq_len(nrow(ends)), factor(of, unique(of))), function(rows) filled(ends[rows, , drop = FALSE], weight[rows], nodes))
}

filled <- function(ends, weight, nodes) {
  weights <- matrix(0, length(nodes), length(nodes), dimnames = list(nodes, nodes))
  weights[ends] <- weight
  weights[ends[, 2:1, drop = FALSE]] <- weight
  diag(weights) <- 0
  weights
}

from_square <- function(read, name) {
  cells <- read$cells
  names <- cells[1, -1]
  if (nrow(cells) != ncol(cells)) {
    inapplicable("'%s' has %d rows and %d columns: neither a square table with names on both sides, nor a list of edges (from, to, weight).",
                 name, nrow(cells) - 1L, ncol(cells) - 1L)
  }
  if (anyDuplicated(names) || !setequal(cells[-1, 1], names)) {
    inapplicable("The first column of '%s' does not have the names of its first line: this is no network.", name)
  }
  values <- vapply(seq_along(names), function(j) weights_of(cells[-1, j + 1], read$line[-1], name), numeric(length(names)))
  weights <- matrix(values, length(names), dimnames = list(cells[-1, 1], names))[names, , drop = FALSE]
  diag(weights) <- 0
  if (max(abs(weights - t(weights))) > 1e-8) {
    inapplicable("'%s' is not symmetric: directed networks are not supported.", name)
  }
  (weights + t(weights)) / 2
}

weights_of <- function(texts, lines, name) {
  values <- suppressWarnings(as.numeric(replace(texts, is_missing(texts), "0")))
  bad <- which(!is.finite(values) | values < 0)
  if (length(bad)) wrong_input("'%s', line %d: '%s' is no weight (a number from 0).", name, lines[bad[1]], substr(texts[bad[1]], 1, 40))
  values
}

# Weights beyond 1 are refused, or divided by the largest of all networks.
within_one <- function(networks, scale) {
  largest <- max(vapply(networks, max, 0))
  if (largest <= 1 + 1e-9) return(lapply(networks, pmin, 1))
  if (!scale) inapplicable("The largest weight is %g: weights go from 0 to 1. Switch 'Scale weights' on to divide by the largest.", largest)
  lapply(networks, `/`, largest)
}
