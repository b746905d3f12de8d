"""Clustering, heat map, volcano: figures that others publish; limma's moderated t is computed here again."""

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
Run = Callable[..., Any]
chance = random.Random(3)
CLASSES = ["a"] * 4 + ["b"] * 5
SPREAD = [math.exp(chance.gauss(0, 1)) for _ in range(60)]
GENES = [[8 + chance.gauss(2 * (i < 6 and j > 3), SPREAD[i]) for j in range(9)] for i in range(60)]


def expression(rows: list[list[float]], classes: list[str] = CLASSES) -> bytes:
    lines = [",".join(["gene", *(f"s{j}" for j in range(len(classes)))]), ",".join(["class", *classes])]
    lines += [",".join([f"g{i:02}", *map(repr, row)]) for i, row in enumerate(rows)]
    return "\n".join(lines).encode() + b"\n"


def digamma(x: float) -> float:
    total = 0.0
    while x < 10:
        total -= 1 / x
        x += 1
    return total + math.log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6)


def trigamma(x: float) -> float:
    total = 0.0
    while x < 10:
        total += 1 / x**2
        x += 1
    return total + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5) + 1 / (42 * x**7)


def moderated_t(rows: list[list[float]]) -> list[float]:
    """Smyth (2004), equations of sections 3 and 6.2, for two groups."""
    parts = [(row[:4], row[4:]) for row in rows]
    variances = [(3 * statistics.variance(a) + 4 * statistics.variance(b)) / 7 for a, b in parts]
    e = [math.log(variance) - digamma(3.5) + math.log(3.5) for variance in variances]
    wanted = statistics.variance(e) - trigamma(3.5)
    assert wanted > 0
    low, high = 1e-3, 1e3
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if trigamma(middle) > wanted else (low, middle)
    d0 = 2 * low
    prior = math.exp(statistics.fmean(e) + digamma(d0 / 2) - math.log(d0 / 2))
    squeezed = [(d0 * prior + 7 * variance) / (d0 + 7) for variance in variances]
    return [
        (statistics.fmean(b) - statistics.fmean(a)) / math.sqrt(s * (1 / 4 + 1 / 5))
        for (a, b), s in zip(parts, squeezed, strict=True)
    ]


class TestVolcano:
    def test_the_moderated_t_is_smyths(self, run_shipped: Run) -> None:
        genes = by(table(run_shipped("volcano", expression=expression(GENES)), "genes.csv"), "gene")
        found = [number(genes[f"g{i:02}"], "t") for i in range(60)]
        assert found == pytest.approx(moderated_t(GENES), rel=1e-6)
        ordered = sorted(number(gene, "p_value") for gene in genes.values())
        best = min(p * 60 / (rank + 1) for rank, p in enumerate(ordered))
        assert min(number(gene, "p_adjusted") for gene in genes.values()) == pytest.approx(best)

    def test_welch_gene_by_gene(self, run_shipped: Run) -> None:
        run = run_shipped("volcano", {"ranking_method": "welch"}, expression=expression(GENES))
        for row in table(run, "genes.csv"):
            values = GENES[int(row["gene"][1:])]
            a, b = values[:4], values[4:]
            error = math.sqrt(statistics.variance(a) / 4 + statistics.variance(b) / 5)
            difference = statistics.fmean(b) - statistics.fmean(a)
            assert number(row, "log_fold_change", "t") == pytest.approx([difference, difference / error])

    def test_golub(self, run_shipped: Run) -> None:
        """Cystatin C and zyxin are among the genes that Golub et al. (1999) name for AML."""
        run = run_shipped("volcano")
        genes = table(run, "genes.csv")
        assert len(genes) == 3051
        assert {"M27891_at", "X95735_at"} <= {
            gene["gene"] for gene in genes[:4] if gene["change"] == "higher"
        }
        counts = {row["change"]: int(row["genes"]) for row in table(run, "summary.csv")}
        assert sum(counts.values()) == 3051
        strong = [
            g for g in genes if number(g, "p_adjusted") <= 0.05 and abs(number(g, "log_fold_change")) >= 1
        ]
        assert counts["higher"] + counts["lower"] == len(strong)

    def test_counts_that_are_few_are_left_out(self, run_shipped: Run) -> None:
        mine = random.Random(8)
        rows = [
            [float(mine.randint(50, 90) * (4 if i < 3 and j > 3 else 1)) for j in range(9)] for i in range(40)
        ]
        rows.append([1.0, *[0.0] * 8])
        run = run_shipped("volcano", {"values": "counts"}, expression=expression(rows))
        genes = table(run, "genes.csv")
        assert len(genes) == 40
        assert {gene["gene"] for gene in genes if gene["change"] == "higher"} == {"g00", "g01", "g02"}
        assert "1 genes with fewer than 10 counts are left out" in run.out

    @pytest.mark.parametrize(
        ("classes", "parameters", "code", "reason"),
        [
            (["a"] * 9, {}, 65, "Two classes are compared; here are 1 (a)."),
            (["a", *["b"] * 8], {}, 65, "Class 'a' has one sample"),
            (CLASSES, {"classes": ["a", "c"]}, 1, "There is no class 'c'; the classes are: a, b."),
            (CLASSES, {"values": "counts"}, 65, "Counts are not negative"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, classes: list[str], parameters: dict[str, Any], code: int, reason: str
    ) -> None:
        rows = [[-1.0, *row[1:]] for row in GENES]
        run = run_shipped("volcano", parameters, expression=expression(rows, classes))
        assert (run.code, run.reason[: len(reason)]) == (code, reason), run.error


class TestClustering:
    def test_k_means_of_irises(self, run_shipped: Run) -> None:
        """As scikit-learn finds: inertia 78.851, silhouette 0.5528, adjusted Rand index 0.7302."""
        run = run_shipped("clustering", {"algorithm": "kmeans", "k": 3})
        quality = by(table(run, "quality.csv"), "k")
        assert number(quality["3"], "within_ss", "mean_silhouette") == pytest.approx(
            [78.8514414, 0.5528190], abs=1e-6
        )
        assert [row["k"] for row in quality.values() if row["chosen"] == "yes"] == ["3"]
        assert [row["size"] for row in table(run, "centres.csv")] == ["62", "50", "38"]
        assert number(table(run, "agreement.csv")[0], "adjusted_rand") == pytest.approx(0.7302, abs=1e-4)
        assert not (run.outputs / "merges.csv").exists()

    def test_single_linkage_by_hand(self, run_shipped: Run) -> None:
        content = b"name,x,y\na,0,0\nb,1,0\nc,3,0\nd,10,0\ne,10,2\n"
        run = run_shipped("clustering", {"linkage": "single", "id": "name"}, table=content)
        assert [number(row, "height") for row in table(run, "merges.csv")] == [1, 2, 2, 7]
        rows = by(table(run, "clusters.csv"), "name")
        assert [rows[name]["cluster"] for name in "abcde"] == ["1", "1", "1", "2", "2"]
        # a: mean distance 2 to b and c; 10 and sqrt(104) to d and e.
        b = (10 + math.sqrt(104)) / 2
        assert number(rows["a"], "silhouette") == pytest.approx((b - 2) / b)

    def test_correlation_sees_shapes_and_not_sizes(self, run_shipped: Run) -> None:
        rows = [[1, 2, 3, 4.1], [10, 20, 30, 39], [4, 3, 2.2, 1], [40, 30, 20, 11]]
        content = "\n".join(["p,q,r,s", *(",".join(map(str, row)) for row in rows)]).encode()
        run = run_shipped("clustering", {"distance": "correlation", "k": 2}, table=content)
        assert [row["cluster"] for row in table(run, "clusters.csv")] in (list("1122"), list("2211"))

    @pytest.mark.parametrize(
        ("content", "parameters", "reason"),
        [
            (b"x,y\n1,1\n1,1\n1,1\n", {}, "All observations are the same"),
            (b"x,y\n1,1\n2,1\n1,1\n", {"k": 3}, "3 clusters are asked for; only 2 observations differ."),
            (
                b"x,y\n1,1\n2,1\n1,5\n",
                {"distance": "correlation"},
                "Correlations between observations need 3",
            ),
        ],
        ids=lambda value: str(value)[:25],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, content: bytes, parameters: dict[str, Any], reason: str
    ) -> None:
        run = run_shipped("clustering", parameters, table=content)
        assert (run.code, run.reason[: len(reason)]) == (65, reason), run.error


class TestHeatMap:
    def test_ranked_by_limma(self, run_shipped: Run) -> None:
        run = run_shipped("heat-map", {"ranking_method": "limma", "max_rows": 10}, table=expression(GENES))
        rows = table(run, "ranking.csv")
        scores = by(rows, "feature")
        expected = [t * t for t in moderated_t(GENES)]
        assert [number(scores[f"g{i:02}"], "score") for i in range(60)] == pytest.approx(expected, rel=1e-6)
        drawn = {row["feature"] for row in table(run, "heatmap.csv")}
        assert drawn == {row["feature"] for row in rows[:10]}

    def test_ranked_by_variance_and_standardised(self, run_shipped: Run) -> None:
        run = run_shipped("heat-map", table=expression(GENES))
        rows = table(run, "ranking.csv")
        order = sorted(range(60), key=lambda i: -statistics.variance(GENES[i]))
        assert [row["feature"] for row in rows] == [f"g{i:02}" for i in order]
        for row in table(run, "heatmap.csv")[:5]:
            values = [float(value) for name, value in row.items() if name != "feature"]
            assert statistics.fmean(values) == pytest.approx(0, abs=1e-9)
            assert statistics.stdev(values) == pytest.approx(1)

    def test_in_the_order_of_rank_and_groups(self, run_shipped: Run) -> None:
        parameters = {
            "cluster_rows": False,
            "cluster_columns": False,
            "scale": False,
            "ranking_method": "mean",
        }
        classes = list("babababab")
        run = run_shipped("heat-map", parameters, table=expression(GENES, classes))
        rows = table(run, "heatmap.csv")
        assert list(rows[0])[1:] == ["s1", "s3", "s5", "s7", "s0", "s2", "s4", "s6", "s8"]
        assert [row["feature"] for row in rows] == [row["feature"] for row in table(run, "ranking.csv")][:50]

    def test_limma_wants_groups(self, run_shipped: Run) -> None:
        run = run_shipped("heat-map", {"ranking_method": "limma"}, table=b"x,y\n1,3\n2,1\n4,5\n")
        assert (run.code, run.reason[:29]) == (65, "Ranking by limma compares gro")
