# Principal components by singular values: list(scores, loadings, variance), at most `components` of them.

components_of <- function(values, parameters) {
  varies <- apply(values, 2, function(column) max(column) > min(column))
  if (parameters$scale && !all(varies)) {
    inapplicable("Column '%s' is constant: it can't be standardised. Leave it out, or switch 'Standardise' off.", names(which(!varies))[1])
  }
  if (sum(varies) < 2) inapplicable("Fewer than 2 columns vary: there are no components to find.")
  found <- stats::prcomp(values, center = TRUE, scale. = parameters$scale)
  kept <- seq_len(min(parameters$components, sum(found$sdev > 1e-10 * found$sdev[1])))
  if (length(kept) < 2) inapplicable("All observations lie on one line: there is one component only.")
  turned <- signs(found$rotation[, kept, drop = FALSE])
  scores <- sweep(found$x[, kept, drop = FALSE], 2, turned, `*`)
  if (parameters$whiten) scores <- sweep(scores, 2, found$sdev[kept], `/`)
  list(scores = as.data.frame(scores), loadings = as.data.frame(sweep(found$rotation[, kept, drop = FALSE], 2, turned, `*`)),
       variance = variance_of(found$sdev, kept))
}

# Which way a component points is chance; here its largest loading is positive.
signs <- function(loadings) apply(loadings, 2, function(loading) sign(loading[which.max(abs(loading))]))

variance_of <- function(sdev, kept) {
  ratio <- sdev^2 / sum(sdev^2)
  data.frame(component = paste0("PC", kept), variance = sdev[kept]^2, ratio = ratio[kept], cumulative = cumsum(ratio)[kept])
}
