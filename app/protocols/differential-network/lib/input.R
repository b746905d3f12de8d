# Expression data: list(expression = matrix genes x samples, labels = class of each sample, title, names).

read_expression <- function(directory) {
  path <- file.path(directory, "expression")
  if (file.exists(path)) read_table(path) else golub_data()
}

# Golub et al. (1999), as prepared by Dudoit et al. and shipped with the package multtest.
golub_data <- function() {
  place <- new.env()
  utils::data("golub", package = "multtest", envir = place)
  expression <- place$golub
  rownames(expression) <- place$golub.gnames[, 3]
  list(
    expression = expression,
    labels = c("ALL", "AML")[place$golub.cl + 1],
    names = place$golub.gnames[, 2],
    title = "Golub leukaemia data"
  )
}

read_table <- function(path) {
  raw <- tryCatch(
    utils::read.csv(path, header = FALSE, colClasses = "character", check.names = FALSE,
                    strip.white = TRUE, fill = FALSE, comment.char = "", encoding = "UTF-8"),
    error = function(e) wrong_input("The expression table can't be read: %s.", conditionMessage(e)),
    warning = function(w) wrong_input("The expression table is broken: %s.", conditionMessage(w))
  )
  if (nrow(raw) < 2 || tolower(raw[2, 1]) != "class") {
    inapplicable("The second line doesn't begin with 'class': this is no expression table of two classes.")
  }
  if (ncol(raw) < 2) inapplicable("The expression table has no samples.")
  body <- raw[-(1:2), , drop = FALSE]
  list(expression = numbers_of(body), labels = unname(unlist(raw[2, -1])), names = NULL, title = "Expression data")
}

numbers_of <- function(body) {
  text <- as.matrix(body[, -1, drop = FALSE])
  text[text %in% c("", "NA", "NaN")] <- NA
  values <- suppressWarnings(matrix(as.numeric(text), nrow(text)))
  bad <- which(!is.na(text) & !is.finite(values), arr.ind = TRUE)
  if (nrow(bad)) {
    first <- bad[order(bad[, 1], bad[, 2])[1], ]
    wrong_input("Line %d, column %d: '%s' is no number.", first[1] + 2L, first[2] + 1L, substr(text[first[1], first[2]], 1, 40))
  }
  rownames(values) <- make.unique(body[[1]])
  values
}

# Keep the samples of the two classes, and the genes without a missing value among them.
two_classes <- function(data, wanted) {
  there <- sort(unique(data$labels[nzchar(data$labels)]))
  classes <- if (length(wanted)) wanted else there
  if (length(setdiff(classes, there))) {
    wrong_input("There is no class '%s'; the classes are: %s.", setdiff(classes, there)[1], toString(there))
  }
  if (length(classes) != 2) {
    inapplicable("Two classes are compared; here are %d (%s). Choose two with the parameter 'classes'.",
                 length(classes), toString(utils::head(classes, 10)))
  }
  kept <- data$labels %in% classes
  data$labels <- data$labels[kept]
  data$expression <- data$expression[, kept, drop = FALSE]
  data$classes <- classes
  few <- classes[table(factor(data$labels, classes)) < 4]
  if (length(few)) inapplicable("Class '%s' has fewer than 4 samples: too few for correlations.", few[1])
  drop_incomplete(data)
}

drop_incomplete <- function(data) {
  complete <- rowSums(is.na(data$expression)) == 0
  if (!all(complete)) say("%d genes with missing values are left out", sum(!complete))
  data$expression <- data$expression[complete, , drop = FALSE]
  if (!is.null(data$names)) data$names <- data$names[complete]
  data
}

describe_classes <- function(data) {
  counts <- table(factor(data$labels, data$classes))
  paste(sprintf("%d samples %s", counts, names(counts)), collapse = ", ")
}
