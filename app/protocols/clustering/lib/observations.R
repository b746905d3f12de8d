# Observations × columns of numbers, from a table of people or from an expression table (whose samples are the
# observations): list(values, names, group). What has a missing value is left out: rows of a table, genes of an expression table.

observations <- function(path, parameters) {
  data <- if (is_expression_table(path)) from_expression(path, parameters) else from_table(path, parameters)
  if (nrow(data$values) < 3) inapplicable("Only %d observations have all values: at least 3 are needed.", nrow(data$values))
  data
}

from_table <- function(path, parameters) {
  table <- read_columns(path, parameters$id, parameters$only)
  columns <- group_columns(table, parameters$groups, parameters$id)
  values <- number_matrix(table, parameters$variables, c(columns, parameters$id), least = 2)
  names <- if (is.null(parameters$id)) as.character(seq_len(nrow(values))) else make.unique(column(table, parameters$id))
  kept <- stats::complete.cases(values)
  if (!all(kept)) say("%d rows with a missing value are left out", sum(!kept))
  list(values = values[kept, , drop = FALSE], names = names[kept], group = with_unknown(groups_of(table, columns)[kept]))
}

from_expression <- function(path, parameters) {
  read <- read_expression_table(path)
  genes <- if (length(parameters$variables)) intersect(parameters$variables, rownames(read$values)) else rownames(read$values)
  if (length(genes) < 2) inapplicable("The expression table has fewer than 2 of the columns that were asked for.")
  values <- read$values[genes, , drop = FALSE]
  whole <- stats::complete.cases(values)
  if (!all(whole)) say("%d genes with a missing value are left out", sum(!whole))
  kept <- !length(parameters$only) | colnames(values) %in% parameters$only
  if (sum(whole) < 2 || !any(kept)) inapplicable("Fewer than 2 genes have all values, or no sample is left.")
  group <- groups_of(list(columns = list(class = read$class), line = seq_along(read$class)), "class")
  list(values = t(values[whole, kept, drop = FALSE]), names = colnames(values)[kept], group = with_unknown(group[kept]))
}

# Rows without a group stay, in a group of their own.
with_unknown <- function(group) {
  if (anyNA(group)) group <- factor(ifelse(is.na(group), "(none)", as.character(group)))
  droplevels(group)
}
