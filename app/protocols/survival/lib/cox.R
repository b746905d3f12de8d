# Cox's proportional hazards (Efron's handling of ties), with a test of proportionality for each term.

# NULL where there is nothing to compare, or the model does not converge; the log says why.
cox_table <- function(table, data, covariates, confidence) {
  frame <- covariate_frame(table, data, covariates)
  if (is.null(frame)) return(NULL)
  formula <- stats::reformulate(sprintf("`%s`", covariates), quote(survival::Surv(time, event)))
  trouble <- NULL
  model <- withCallingHandlers(
    tryCatch(survival::coxph(formula, data = frame, ties = "efron"), error = function(e) { trouble <<- conditionMessage(e); NULL }),
    warning = function(w) { trouble <<- conditionMessage(w); invokeRestart("muffleWarning") }
  )
  if (!is.null(trouble)) say("Cox's model is left out: %s", trimws(trouble))
  if (is.null(model) || !is.null(trouble)) return(NULL)
  rows_of(model, confidence)
}

covariate_frame <- function(table, data, covariates) {
  if (!length(covariates)) return(NULL)
  values <- lapply(covariates, function(name) {
    texts <- column(table, name)[data$row]
    if (is_number_column(texts)) numbers(table, name)[data$row] else factor(replace(texts, is_missing(texts), NA))
  })
  frame <- cbind(data[c("time", "event")], stats::setNames(as.data.frame(values), covariates))
  frame <- droplevels(frame[stats::complete.cases(frame), ])
  constant <- covariates[vapply(covariates, function(name) length(unique(frame[[name]])) < 2, TRUE)]
  if (!length(constant)) return(frame)
  say("Cox's model is left out: '%s' is the same in all rows.", constant[1])
  NULL
}

rows_of <- function(model, confidence) {
  coefficients <- summary(model)$coefficients
  intervals <- stats::confint(model, level = confidence)
  # As a table by term: one of several levels has one p for all of them.
  proportional <- survival::cox.zph(model)$table
  terms <- rep(names(model$assign), lengths(model$assign))
  data.frame(term = gsub("`", "", rownames(coefficients)), n = model$n, events = model$nevent, coefficient = coefficients[, "coef"],
             hazard_ratio = exp(coefficients[, "coef"]), lower = exp(intervals[, 1]), upper = exp(intervals[, 2]),
             z = coefficients[, "z"], p_value = coefficients[, "Pr(>|z|)"],
             proportionality_p = proportional[match(gsub("`", "", terms), gsub("`", "", rownames(proportional))), "p"])
}
