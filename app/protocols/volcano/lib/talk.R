# How the program speaks: progress to Labfleet, a log for people, and its two ways to give up.

progress <- function(share, text) {
  cat(sprintf("%.2f %s\n", share, text), file = Sys.getenv("LABFLEET_PROGRESS"), append = TRUE)
  say("%s", text)
}

say <- function(format, ...) cat(sprintf(format, ...), "\n", sep = "")

# The analysis doesn't apply to this input: exit code 65.
inapplicable <- function(format, ...) give_up("inapplicable", sprintf(format, ...))

# The input has a fault that its owner can mend: exit code 1.
wrong_input <- function(format, ...) give_up("wrong_input", sprintf(format, ...))

give_up <- function(class, message) {
  stop(structure(class = c(class, "error", "condition"), list(message = message, call = NULL)))
}

# Run `main`. The last line on standard error is the reason, without R's own decoration.
run <- function(main) {
  leave <- function(status) function(condition) {
    message(conditionMessage(condition))
    quit(save = "no", status = status)
  }
  tryCatch(main(), inapplicable = leave(65), wrong_input = leave(1))
}
