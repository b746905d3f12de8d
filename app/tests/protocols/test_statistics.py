"""Correlation, histogram, box plot, components: figures from the literature, or computed another way."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .reading import by, number, table

pytestmark = pytest.mark.r

PROTOCOLS = Path(__file__).parents[2] / "protocols"
IRIS = (PROTOCOLS / "pca" / "sample.csv").read_bytes()
Run = Callable[..., Any]


def csv_of(head: str, rows: list[tuple[Any, ...]]) -> bytes:
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]).encode() + b"\n"


class TestCorrelation:
    def test_anscombe(self, run_shipped: Run) -> None:
        """Anscombe (1973): r = 0.82, y = 3.0 + 0.5 x in each of the four sets."""
        rows = by(table(run_shipped("correlation", {"groups": ["set"]}), "correlation.csv"), "group")
        assert set(rows) == {"all", "I", "II", "III", "IV"}
        for name in ("I", "II", "III", "IV"):
            assert number(rows[name], "coef", "slope", "intercept") == pytest.approx(
                [0.816, 0.5, 3.0], abs=0.003
            )
            assert rows[name]["n"] == "11"

    def test_ranks_and_pairs_counted_one_by_one(self, run_shipped: Run) -> None:
        chance = random.Random(5)
        x = [chance.gauss(0, 1) for _ in range(40)]
        y = [a**3 + chance.gauss(0, 2) for a in x]
        content = csv_of("x,y", list(zip(x, y, strict=True)))

        def coefficient(method: str) -> float:
            run = run_shipped("correlation", {"method": method}, table=content)
            (row,) = table(run, "correlation.csv")
            return float(number(row, "coef"))

        def ranks(values: list[float]) -> list[int]:
            ordered = sorted(values)
            return [ordered.index(value) for value in values]

        agree = sum(1 if (x[i] - x[j]) * (y[i] - y[j]) > 0 else -1 for i in range(40) for j in range(i))
        assert coefficient("kendall") == pytest.approx(agree / (40 * 39 / 2))
        assert coefficient("spearman") == pytest.approx(statistics.correlation(ranks(x), ranks(y)))
        assert coefficient("pearson") == pytest.approx(statistics.correlation(x, y))

    def test_only_some_rows_and_missing_values(self, run_shipped: Run) -> None:
        content = b"name;a;b\nu;1;2\nv;2;NA\nw;3;5\nx;4;9\ny;5;1\n"
        run = run_shipped("correlation", {"id": "name", "only": ["u", "v", "w", "x"]}, table=content)
        (row,) = table(run, "correlation.csv")
        assert row["n"] == "3"
        assert number(row, "coef") == pytest.approx(statistics.correlation([1, 3, 4], [2, 5, 9]))
        assert "1 rows with a missing value are left out" in run.out

    @pytest.mark.parametrize(
        ("content", "parameters", "code", "reason"),
        [
            (b"a,b\nx,y\nz,w\n", {}, 65, "Two columns of numbers are needed"),
            (b"a,b\n1,2\n3,4", {}, 65, "Only 2 rows have both values"),
            (b"a,b\n1,2\n", {"x": "c"}, 65, "The table has no column 'c'; it has: a, b."),
            (b"a,b\n1,2\n3,x\n", {"y": "b"}, 1, "Line 3, column 'b': 'x' is no number."),
            (b"a,a\n1,2\n", {}, 1, "Two columns have the name 'a'"),
            (b"a,b\n", {}, 65, "The table has column names and no row."),
            (b"a,b\n1,2\n", {"only": ["u"]}, 1, "The parameter 'only' needs 'id'"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, content: bytes, parameters: dict[str, Any], code: int, reason: str
    ) -> None:
        run = run_shipped("correlation", parameters, table=content)
        assert (run.code, run.reason[: len(reason)]) == (code, reason), run.error

    def test_too_many_groups(self, run_shipped: Run) -> None:
        content = csv_of("g,x,y", [(f"g{i}", i, i * i) for i in range(13)])
        run = run_shipped("correlation", {"groups": "g"}, table=content)
        assert (run.code, run.reason[:19]) == (65, "There are 13 groups")

    def test_a_constant_group_has_no_coefficient(self, run_shipped: Run) -> None:
        content = csv_of("g,x,y", [("a", i, i % 4) for i in range(8)] + [("b", i, 1) for i in range(8)])
        rows = by(
            table(run_shipped("correlation", {"groups": "g"}, table=content), "correlation.csv"), "group"
        )
        assert (rows["b"]["n"], rows["b"]["coef"]) == ("8", "")


class TestHistogram:
    def test_counts_and_density(self, run_shipped: Run) -> None:
        run = run_shipped("histogram", {"column": "waiting", "bins": 53})
        bins = table(run, "histogram.csv")
        lines = (PROTOCOLS / "histogram" / "sample.csv").read_text().splitlines()[1:]
        values = [int(line.split(",")[1]) for line in lines]
        # 43 … 96 in bins of one minute; the last has both ends.
        expected = [sum(1 for value in values if min(value, 95) == 43 + i) for i in range(53)]
        assert [int(row["count"]) for row in bins] == expected
        areas = [number(row, "density") * (number(row, "high") - number(row, "low")) for row in bins]
        assert sum(areas) == pytest.approx(1)
        (summary,) = table(run, "summary.csv")
        assert number(summary, "mean", "sd", "median") == pytest.approx(
            [statistics.fmean(values), statistics.stdev(values), statistics.median(values)]
        )
        quartiles = statistics.quantiles(values, method="inclusive")
        assert number(summary, "q1", "median", "q3") == pytest.approx(quartiles)

    def test_the_smooth_curve_is_a_sum_of_kernels(self, run_shipped: Run) -> None:
        values = [1.0, 2.0, 2.5, 4.0, 7.0]
        run = run_shipped("histogram", {"bandwidth": 1}, table=csv_of("v,w", [(v, "a") for v in values]))
        width = statistics.stdev(values) * len(values) ** -0.2
        kernels = [statistics.NormalDist(value, width) for value in values]
        for row in table(run, "density.csv")[::25]:
            expected = statistics.fmean(kernel.pdf(number(row, "x")) for kernel in kernels)
            assert number(row, "density") == pytest.approx(expected)

    def test_groups_share_their_bins(self, run_shipped: Run) -> None:
        rows = table(run_shipped("histogram", {"groups": "species"}, table=IRIS), "histogram.csv")
        edges = {group: [r["low"] for r in rows if r["group"] == group] for group in ("setosa", "virginica")}
        assert edges["setosa"] == edges["virginica"]
        assert sum(int(row["count"]) for row in rows) == 150

    def test_a_column_of_one_value(self, run_shipped: Run) -> None:
        rows = table(run_shipped("histogram", table=b"v,w\n3,a\n3,b\n"), "histogram.csv")
        assert [row["count"] for row in rows] == ["2"]


class TestBoxPlot:
    def test_anova_of_plant_growth(self, run_shipped: Run) -> None:
        """Dobson (1983): F = 4.846 with 2 and 27 degrees of freedom, p = 0.0159."""
        run = run_shipped("box-plot")
        (row,) = table(run, "tests.csv")
        assert (row["test"], row["df"], row["df_error"]) == ("ANOVA", "2", "27")
        assert number(row, "statistic", "p_value") == pytest.approx([4.846, 0.01591], abs=5e-4)
        boxes = by(table(run, "statistics.csv"), "group")
        assert {name: float(box["mean"]) for name, box in boxes.items()} == pytest.approx(
            {"ctrl": 5.032, "trt1": 4.661, "trt2": 5.526}
        )
        assert boxes["trt1"]["outliers"] == "2"

    def test_welch_of_the_sleep_data(self, run_shipped: Run) -> None:
        """Student (1908): t = -1.8608 with 17.776 degrees of freedom, p = 0.0794."""
        first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
        second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
        content = csv_of("hours,drug", [(v, "a") for v in first] + [(v, "b") for v in second])
        (row,) = table(run_shipped("box-plot", table=content), "tests.csv")
        assert row["test"] == "Welch's t"
        assert number(row, "statistic", "df", "p_value") == pytest.approx(
            [-1.8608, 17.776, 0.07939], abs=5e-4
        )

    def test_kruskal_of_hollander_and_wolfe(self, run_shipped: Run) -> None:
        """Mucociliary efficiency, Hollander and Wolfe (1973), p. 116: H = 0.7714, p = 0.68."""
        groups = {
            "normal": [2.9, 3.0, 2.5, 2.6, 3.2],
            "obstructed": [3.8, 2.7, 4.0, 2.4],
            "asbestosis": [2.8, 3.4, 3.7, 2.2, 2.0],
        }
        content = csv_of("rate,who", [(v, name) for name, values in groups.items() for v in values])
        run = run_shipped("box-plot", {"test": "ranks"}, table=content)
        (row,) = table(run, "tests.csv")
        assert row["test"] == "Kruskal-Wallis"
        assert number(row, "statistic", "p_value") == pytest.approx([0.77143, 0.67997], abs=1e-4)

    def test_boxes_and_adjusted_p(self, run_shipped: Run) -> None:
        run = run_shipped("box-plot", {"transformation": "log10"}, table=IRIS)
        lines = [line.split(",") for line in IRIS.decode().splitlines()[1:]]
        values = sorted(math.log10(float(line[0])) for line in lines if line[4] == "virginica")
        box = by(table(run, "statistics.csv"), "feature", "group")["sepal length", "virginica"]
        quartiles = statistics.quantiles(values, method="inclusive")
        assert number(box, "l_qrt", "median", "u_qrt") == pytest.approx(quartiles)
        reach = 1.5 * (quartiles[2] - quartiles[0])
        inside = [v for v in values if quartiles[0] - reach <= v <= quartiles[2] + reach]
        assert number(box, "l_wsk", "u_wsk") == pytest.approx([inside[0], inside[-1]])
        tests = table(run, "tests.csv")
        ordered = sorted(number(row, "p_value") for row in tests)
        adjusted = [min(p * 4 / (rank + 1) for rank, p in list(enumerate(ordered))[i:]) for i in range(4)]
        assert sorted(number(row, "p_adjusted") for row in tests) == pytest.approx(adjusted)
        assert len(table(run, "pairs.csv")) == 4 * 3

    def test_a_group_of_one_is_drawn_and_not_tested(self, run_shipped: Run) -> None:
        run = run_shipped("box-plot", table=b"v,g\n1,a\n2,a\n3,b\n")
        (row,) = table(run, "tests.csv")
        assert (row["test"], row["p_value"]) == ("not testable", "")

    def test_no_logarithm_of_zero(self, run_shipped: Run) -> None:
        run = run_shipped("box-plot", {"transformation": "log2"}, table=b"v,g\n1,a\n0,a\n3,b\n4,b\n")
        assert (run.code, run.reason[:38]) == (65, "Column 'v' has the value 0: there is n")


class TestPca:
    def test_irises(self, run_shipped: Run) -> None:
        """As scikit-learn's documentation has it: explained_variance_ratio_ of the iris data."""
        run = run_shipped("pca")
        ratios = [number(row, "ratio") for row in table(run, "variance.csv")]
        assert ratios == pytest.approx([0.92461872, 0.05306648, 0.01710261, 0.00521218], abs=1e-8)
        loadings = by(table(run, "loadings.csv"), "column")
        assert [number(row, "PC1") for row in loadings.values()] == pytest.approx(
            [0.36138659, -0.08452251, 0.85667061, 0.3582892], abs=1e-7
        )

    def test_scores_are_values_times_loadings(self, run_shipped: Run) -> None:
        run = run_shipped("pca", {"scale": True})
        columns = list(zip(*[line.split(",")[:4] for line in IRIS.decode().splitlines()[1:]], strict=True))
        values = [[float(text) for text in column] for column in columns]
        loadings = [number(row, "PC2") for row in table(run, "loadings.csv")]
        scores = [number(row, "PC2") for row in table(run, "scores.csv")]
        centred = [[(v - statistics.fmean(c)) / statistics.stdev(c) for v in c] for c in values]
        expected = [sum(w * c[i] for w, c in zip(loadings, centred, strict=True)) for i in range(150)]
        assert scores == pytest.approx(expected)

    def test_whitened_scores_have_variance_one(self, run_shipped: Run) -> None:
        rows = table(run_shipped("pca", {"whiten": True, "components": 2}), "scores.csv")
        assert list(rows[0]) == ["name", "group", "PC1", "PC2"]
        for component in ("PC1", "PC2"):
            assert statistics.variance(number(row, component) for row in rows) == pytest.approx(1)

    def test_an_expression_table(self, run_shipped: Run) -> None:
        sample = (PROTOCOLS / "differential-network" / "sample.csv").read_bytes()
        rows = table(run_shipped("pca", table=sample), "scores.csv")
        assert [row["name"] for row in rows] == [f"S{i:02}" for i in range(1, 13)]
        assert {row["group"] for row in rows} == {"healthy", "ill"}

    @pytest.mark.parametrize(
        ("content", "parameters", "reason"),
        [
            (b"a,b\n1,2\n3,5\n", {}, "Only 2 observations have all values"),
            (b"a,b\n1,x\n3,y\n4,z\n", {}, "2 columns of numbers are needed; the table has 1."),
            (b"a,b,c\n1,7,2\n3,7,1\n4,7,9\n", {"scale": True}, "Column 'b' is constant"),
            (b"a,b\n1,2\n2,4\n3,6\n", {}, "All observations lie on one line"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, content: bytes, parameters: dict[str, Any], reason: str
    ) -> None:
        run = run_shipped("pca", parameters, table=content)
        assert (run.code, run.reason[: len(reason)]) == (65, reason), run.error
