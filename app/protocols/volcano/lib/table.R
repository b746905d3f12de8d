# Tables of people: CSV or TSV in UTF-8 with column names in the first line, and expression tables, whose
# second line begins with `class`. What is wrong is told with line and column.

MISSING <- c("", "NA", "NaN", "null")
MAX_GROUPS <- 12

# The file of an input slot, or the protocol's own sample where the slot was left empty.
input_or_sample <- function(slot) {
  path <- file.path(Sys.getenv("LABFLEET_INPUTS"), slot)
  if (file.exists(path)) return(path)
  say("No input: the protocol's own sample is taken.")
  "sample.csv"
}

# All fields as texts, without empty lines: list(cells = matrix, line = the file's line of each row).
read_cells <- function(path) {
  look_at(path)
  separator <- separator_of(path)
  fields <- utils::count.fields(path, sep = separator, quote = "\"", blank.lines.skip = FALSE, comment.char = "")
  line <- which(!is.na(fields) & fields > 0)
  uneven <- line[fields[line] != fields[line[1]]]
  if (length(uneven)) {
    wrong_input("Line %d has %d fields, but the first line has %d: correct that line (a delimiter inside a text needs quotes).",
                uneven[1], fields[uneven[1]], fields[line[1]])
  }
  fault <- function(format) function(condition) wrong_input(format, conditionMessage(condition))
  # A last line without an end is none.
  whole <- function(w) if (grepl("incomplete final line", conditionMessage(w))) invokeRestart("muffleWarning")
  raw <- tryCatch(
    withCallingHandlers(
      utils::read.table(path, sep = separator, quote = "\"", colClasses = "character", na.strings = character(),
                        strip.white = TRUE, comment.char = "", fileEncoding = "UTF-8-BOM"),
      warning = whole
    ),
    error = fault("The table can't be read: %s."), warning = fault("The table is broken: %s.")
  )
  list(cells = unname(as.matrix(raw)), line = line)
}

look_at <- function(path) {
  head <- readBin(path, "raw", 4096)
  if (!length(head) || all(head %in% as.raw(c(9, 10, 13, 32)))) inapplicable("The file is empty: there is no table.")
  if (any(head == 0)) inapplicable("The file is binary, not a text table.")
  lines <- readLines(path, warn = FALSE, skipNul = TRUE)
  bad <- which(!validUTF8(lines))
  if (length(bad)) wrong_input("Line %d is not UTF-8: save the table as UTF-8.", bad[1])
  odd <- which(lengths(regmatches(lines, gregexpr("\"", lines, fixed = TRUE))) %% 2 == 1)
  # A quoted text may go over several lines, so only an odd number of quotes in all is a fault.
  if (length(odd) %% 2 == 1) wrong_input("Line %d: a quoted field begins here and never ends: add the missing quote.", odd[length(odd)])
  if (substr(trimws(lines[nzchar(lines)][1]), 1, 1) %in% c("{", "[", "<")) {
    inapplicable("The file looks like JSON or XML, not like a table.")
  }
}

# What is most frequent in the first line, outside of quotes.
separator_of <- function(path) {
  first <- gsub("\"[^\"]*\"", "", readLines(path, n = 1, warn = FALSE, encoding = "UTF-8"))
  counts <- vapply(c(",", ";", "\t"), function(mark) lengths(regmatches(first, gregexpr(mark, first, fixed = TRUE))), 0L)
  names(counts)[which.max(counts)]
}

# list(columns = named list of texts, line = …); `only`, where given, keeps the rows whose `id` it names.
read_columns <- function(path, id = NULL, only = NULL) {
  read <- read_cells(path)
  names <- read$cells[1, ]
  if (nrow(read$cells) < 2) inapplicable("The table has column names and no row.")
  if (anyDuplicated(names)) wrong_input("Two columns have the name '%s': rename one.", names[anyDuplicated(names)])
  body <- read$cells[-1, , drop = FALSE]
  table <- list(columns = stats::setNames(lapply(seq_along(names), function(i) body[, i]), names), line = read$line[-1])
  keep_only(table, id, only)
}

keep_only <- function(table, id, only) {
  if (!length(only)) return(table)
  if (is.null(id)) wrong_input("The parameter 'only' needs 'id': the column in which its names stand.")
  keep_rows(table, column(table, id) %in% only)
}

keep_rows <- function(table, keep) {
  if (!any(keep)) inapplicable("No row is left to analyse.")
  list(columns = lapply(table$columns, `[`, keep), line = table$line[keep])
}

column <- function(table, name) {
  if (!name %in% names(table$columns)) {
    inapplicable("The table has no column '%s'; it has: %s.", name, toString(utils::head(names(table$columns), 20)))
  }
  table$columns[[name]]
}

is_missing <- function(texts) texts %in% MISSING

is_number_column <- function(texts) {
  there <- texts[!is_missing(texts)]
  length(there) > 0 && all(is.finite(suppressWarnings(as.numeric(there))))
}

number_columns <- function(table) names(table$columns)[vapply(table$columns, is_number_column, TRUE)]

# The column's numbers, NA where a value is missing.
numbers <- function(table, name) {
  texts <- column(table, name)
  values <- suppressWarnings(as.numeric(replace(texts, is_missing(texts), NA)))
  bad <- which(!is_missing(texts) & !is.finite(values))
  if (length(bad)) wrong_input("Line %d, column '%s': '%s' is no number.", table$line[bad[1]], name, substr(texts[bad[1]], 1, 40))
  values
}

# The named columns, or else all that are numbers and not `except`; rows × columns.
number_matrix <- function(table, names, except = character(), least = 1) {
  chosen <- if (length(names)) names else setdiff(number_columns(table), except)
  if (length(chosen) < least) inapplicable("%d columns of numbers are needed; the table has %d.", least, length(chosen))
  matrix(vapply(chosen, function(name) numbers(table, name), numeric(length(table$line))),
         ncol = length(chosen), dimnames = list(NULL, chosen))
}

# The group of each row, a factor: the values of the columns, joined by " / ". NA where one is missing.
groups_of <- function(table, columns) {
  if (!length(columns)) return(factor(rep("all", length(table$line))))
  parts <- lapply(columns, function(name) replace(column(table, name), is_missing(column(table, name)), NA))
  joined <- do.call(paste, c(parts, sep = " / "))
  joined[Reduce(`|`, lapply(parts, is.na))] <- NA
  groups <- factor(joined)
  if (!nlevels(groups)) inapplicable("No row has a group: the columns %s are empty.", toString(columns))
  if (nlevels(groups) > MAX_GROUPS) {
    inapplicable("There are %d groups; up to %d can be told apart in a plot. Choose other columns for the groups.",
                 nlevels(groups), MAX_GROUPS)
  }
  groups
}

# The columns for groups that were asked for, or else the first one of texts, none of `except`, that has 2 to MAX_GROUPS
# values, repeated ones.
group_columns <- function(table, asked, except = character()) {
  if (length(asked)) return(asked)
  fits <- vapply(table$columns, function(texts) {
    values <- length(unique(texts[!is_missing(texts)]))
    !is_number_column(texts) && values >= 2 && values <= MAX_GROUPS && values < length(texts)
  }, TRUE)
  utils::head(setdiff(names(table$columns)[fits], except), 1)
}

# An expression table (the second line begins with `class`): list(values = rows × samples, class = of each sample).
read_expression_table <- function(path) {
  read <- read_cells(path)
  if (nrow(read$cells) < 3 || tolower(read$cells[2, 1]) != "class") {
    inapplicable("The second line doesn't begin with 'class': this is no expression table.")
  }
  if (ncol(read$cells) < 3) inapplicable("The expression table has fewer than two samples.")
  text <- read$cells[-(1:2), -1, drop = FALSE]
  text[is_missing(text)] <- NA
  values <- suppressWarnings(matrix(as.numeric(text), nrow(text)))
  bad <- which(!is.na(text) & !is.finite(values), arr.ind = TRUE)
  if (nrow(bad)) {
    first <- bad[order(bad[, 1], bad[, 2])[1], ]
    wrong_input("Line %d, column %d: '%s' is no number.", read$line[first[1] + 2], first[2] + 1L, substr(text[first[1], first[2]], 1, 40))
  }
  dimnames(values) <- list(make.unique(read$cells[-(1:2), 1]), make.unique(read$cells[1, -1]))
  list(values = values, class = read$cells[2, -1])
}

# Whether the file is an expression table.
is_expression_table <- function(path) {
  look_at(path)
  start <- utils::head(readLines(path, n = 2, warn = FALSE), 2)
  length(start) == 2 && grepl("^\"?class\"?[,;\t]", start[2], ignore.case = TRUE)
}

write_csv <- function(table, name) {
  path <- file.path(Sys.getenv("LABFLEET_OUTPUTS"), name)
  utils::write.csv(table, path, row.names = FALSE, na = "", fileEncoding = "UTF-8")
}
