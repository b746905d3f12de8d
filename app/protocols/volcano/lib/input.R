# Expression of two classes: list(values = genes × samples, class, classes, names).

given_expression <- function() {
  path <- file.path(Sys.getenv("LABFLEET_INPUTS"), "expression")
  if (file.exists(path)) return(read_expression_table(path))
  say("No input: Golub's leukaemia data are taken.")
  place <- new.env()
  utils::data("golub", package = "multtest", envir = place)
  values <- place$golub
  rownames(values) <- place$golub.gnames[, 3]
  list(values = values, class = c("ALL", "AML")[place$golub.cl + 1], names = place$golub.gnames[, 2])
}

# The samples of two classes, and the genes without a missing value among them.
two_classes <- function(data, parameters) {
  there <- sort(unique(data$class[!is_missing(data$class)]))
  classes <- if (length(parameters$classes)) parameters$classes else there
  if (length(setdiff(classes, there))) wrong_input("There is no class '%s'; the classes are: %s.", setdiff(classes, there)[1], toString(utils::head(there, 20)))
  if (length(classes) != 2) {
    inapplicable("Two classes are compared; here are %d (%s). Choose two with the parameter 'classes'.", length(classes), toString(utils::head(classes, 10)))
  }
  kept <- data$class %in% classes
  few <- classes[table(factor(data$class[kept], classes)) < 2]
  if (length(few)) inapplicable("Class '%s' has one sample: at least 2 are needed.", few[1])
  values <- data$values[, kept, drop = FALSE]
  whole <- stats::complete.cases(values)
  if (!all(whole)) say("%d genes with a missing value are left out", sum(!whole))
  if (sum(whole) < 2) inapplicable("Only %d genes have all values: at least 2 are needed.", sum(whole))
  list(values = values[whole, , drop = FALSE], class = data$class[kept], classes = classes,
       names = if (is.null(data$names)) rep("", sum(whole)) else data$names[whole])
}
