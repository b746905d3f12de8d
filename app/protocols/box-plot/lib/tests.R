# Do the groups differ? One test for each feature, p adjusted over the features (Benjamini-Hochberg); and all pairs.

tests_of <- function(data, kind) {
  columns <- c("feature", "test", "statistic", "df", "df_error", "p_value", "p_adjusted")
  rows <- if (kind == "none") list() else lapply(colnames(data$values), function(feature) {
    cbind(data.frame(feature = feature), test_of(data$values[, feature], data$group, kind))
  })
  if (!length(rows)) return(stats::setNames(data.frame(matrix(character(), 0, length(columns))), columns))
  found <- do.call(rbind, rows)
  found$p_adjusted <- stats::p.adjust(found$p_value, "BH")
  found
}

test_of <- function(values, group, kind) {
  there <- !is.na(values)
  values <- values[there]
  group <- droplevels(group[there])
  if (!can_be_tested(values, group)) return(outcome("not testable"))
  two <- nlevels(group) == 2
  if (kind == "ranks") return(if (two) wilcoxon(values, group) else kruskal(values, group))
  if (two) welch(values, group) else anova_of(values, group)
}

# At least two groups with two values each, and something that differs within a group.
can_be_tested <- function(values, group) {
  nlevels(group) >= 2 && all(table(group) >= 2) && any(tapply(values, group, function(part) length(unique(part)) > 1))
}

outcome <- function(test, statistic = NA_real_, df = NA_real_, df_error = NA_real_, p = NA_real_) {
  data.frame(test = test, statistic = statistic, df = df, df_error = df_error, p_value = p)
}

welch <- function(values, group) {
  found <- stats::t.test(values ~ group)
  outcome("Welch's t", found$statistic[[1]], found$parameter[[1]], p = found$p.value)
}

anova_of <- function(values, group) {
  found <- stats::anova(stats::lm(values ~ group))
  outcome("ANOVA", found[["F value"]][1], found$Df[1], found$Df[2], found[["Pr(>F)"]][1])
}

wilcoxon <- function(values, group) {
  # With ties R takes the normal approximation, and warns of it.
  found <- suppressWarnings(stats::wilcox.test(values ~ group))
  outcome("Wilcoxon", found$statistic[[1]], p = found$p.value)
}

kruskal <- function(values, group) {
  found <- stats::kruskal.test(values, group)
  outcome("Kruskal-Wallis", found$statistic[[1]], found$parameter[[1]], p = found$p.value)
}

# Every pair of groups, p adjusted within a feature by Holm.
pairs_of <- function(data, kind) {
  empty <- data.frame(feature = character(), first = character(), second = character(), difference = numeric(),
                      p_value = numeric(), p_adjusted = numeric())
  if (kind == "none" || nlevels(data$group) < 2) return(empty)
  parts <- lapply(colnames(data$values), function(feature) {
    rows <- utils::combn(levels(data$group), 2, function(pair) pair_of(feature, data, pair, kind), simplify = FALSE)
    found <- do.call(rbind, rows)
    found$p_adjusted <- stats::p.adjust(found$p_value, "holm")
    found
  })
  do.call(rbind, parts)
}

pair_of <- function(feature, data, pair, kind) {
  here <- data$group %in% pair
  values <- data$values[here, feature]
  group <- factor(data$group[here], pair)
  middle <- if (kind == "ranks") stats::median else mean
  middles <- tapply(values, group, middle, na.rm = TRUE)
  data.frame(feature = feature, first = pair[1], second = pair[2], difference = middles[[2]] - middles[[1]],
             p_value = test_of(values, group, kind)$p_value)
}
