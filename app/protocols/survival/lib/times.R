# Times, events and groups: data.frame(row, time, event, group); rows without one of them are left out.

YES <- c("1", "true", "yes", "t", "y")
NO <- c("0", "false", "no", "f", "n")

times_of <- function(table, columns, parameters) {
  time <- numbers(table, parameters$time)
  negative <- which(time < 0)
  if (length(negative)) wrong_input("Line %d: the time %g is negative.", table$line[negative[1]], time[negative[1]])
  data <- data.frame(row = seq_along(time), time = time, event = events_of(table, parameters$event), group = groups_of(table, columns))
  whole <- stats::complete.cases(data)
  if (!all(whole)) say("%d rows with a missing value are left out", sum(!whole))
  data <- droplevels(data[whole, ])
  if (nrow(data) < 2) inapplicable("Only %d rows have time, event and group: at least 2 are needed.", nrow(data))
  if (!any(data$event)) inapplicable("No event happened: there is nothing to estimate.")
  data
}

events_of <- function(table, name) {
  if (is.null(name) && !"event" %in% names(table$columns)) {
    say("There is no column 'event': it happened to all.")
    return(rep(TRUE, length(table$line)))
  }
  if (is.null(name)) name <- "event"
  texts <- tolower(column(table, name))
  # A number such as 1.0 is written in many ways.
  as_number <- suppressWarnings(as.numeric(texts))
  texts <- ifelse(is.na(as_number), texts, as.character(as_number))
  bad <- which(!is_missing(column(table, name)) & !texts %in% c(YES, NO))
  if (length(bad)) {
    wrong_input("Line %d, column '%s': '%s' is neither 1 (the event happened) nor 0.", table$line[bad[1]], name,
                substr(column(table, name)[bad[1]], 1, 40))
  }
  ifelse(texts %in% YES, TRUE, ifelse(texts %in% NO, FALSE, NA))
}
