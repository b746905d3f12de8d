"""Networks: inference, distance, stability, statistics; the published definitions are computed here again."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import reference
from .reading import by, number, table

pytestmark = pytest.mark.r

PROTOCOLS = Path(__file__).parents[2] / "protocols"
Matrix = list[list[float]]
Run = Callable[..., Any]
chance = random.Random(11)
HIDDEN = [[chance.gauss(0, 1) for _ in range(2)] for _ in range(14)]
DATA: Matrix = [
    [row[j % 2] * (1 if j < 4 else -1) + chance.gauss(0, 0.7) for j in range(6)] for row in HIDDEN
]
NAMES = [f"g{j}" for j in range(6)]
COLUMNS = [list(column) for column in zip(*DATA, strict=True)]
PAIRS = [(i, j) for i in range(6) for j in range(6) if i != j]


def data_csv(rows: Matrix = DATA) -> bytes:
    return "\n".join([",".join(NAMES), *(",".join(map(repr, row)) for row in rows)]).encode() + b"\n"


def matrix(score: Callable[[int, int], float]) -> Matrix:
    return [[0.0 if i == j else score(i, j) for j in range(6)] for i in range(6)]


def pearson(columns: Matrix = COLUMNS) -> Matrix:
    return matrix(lambda i, j: abs(statistics.correlation(columns[i], columns[j])))


def information() -> Matrix:
    ranks = [[sorted(column).index(value) for value in column] for column in COLUMNS]
    return matrix(lambda i, j: -0.5 * math.log(1 - statistics.correlation(ranks[i], ranks[j]) ** 2))


def relative(weights: Matrix) -> Matrix:
    top = max(map(max, weights))
    return [[weight / top for weight in row] for row in weights]


def biweight(column: list[float]) -> list[float]:
    centre = statistics.median(column)
    spread = statistics.median(abs(value - centre) for value in column)
    u = [(value - centre) / (9 * spread) for value in column]
    parts = [spread * 9 * x * (1 - x * x) ** 2 if abs(x) < 1 else 0.0 for x in u]
    length = math.hypot(*parts)
    return [part / length for part in parts]


def expected(method: str) -> Matrix:
    if method == "cor":
        return pearson()
    if method == "WGCNA":
        return matrix(lambda i, j: pearson()[i][j] ** 6)
    if method == "bicor":
        unit = [biweight(column) for column in COLUMNS]
        return matrix(lambda i, j: abs(sum(a * b for a, b in zip(unit[i], unit[j], strict=True))))
    if method == "TOM":
        a = expected("WGCNA")
        degree = [sum(row) for row in a]

        def overlap(i: int, j: int) -> float:
            shared = sum(a[i][u] * a[u][j] for u in range(6) if u not in (i, j))
            return (shared + a[i][j]) / (min(degree[i], degree[j]) + 1 - a[i][j])

        return matrix(overlap)
    mi = information()
    if method == "ARACNE":
        return relative(
            matrix(
                lambda i, j: (
                    0.0
                    if any(mi[i][j] < min(mi[i][k], mi[j][k]) for k in range(6) if k not in (i, j))
                    else mi[i][j]
                )
            )
        )
    assert method == "CLR"

    def z(i: int, j: int) -> float:
        others = [mi[i][k] for k in range(6) if k != i]
        return max(0.0, (mi[i][j] - statistics.fmean(others)) / statistics.stdev(others))

    return relative(matrix(lambda i, j: math.hypot(z(i, j), z(j, i))))


def adjacency(run: Any) -> Matrix:
    return [[float(row[name]) for name in NAMES] for row in table(run, "adjacency.csv")]


def flat(weights: Matrix) -> list[float]:
    return [weights[i][j] for i, j in PAIRS]


class TestInference:
    @pytest.fixture(scope="class")
    @staticmethod
    def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Matrix]:
        """The weights by every method without shuffling, in one R process."""
        file = tmp_path_factory.mktemp("cases") / "data.json"
        file.write_text(json.dumps({"values": DATA, "names": NAMES}))
        program = """
          for (part in c("talk", "inference")) source(file.path("lib", paste0(part, ".R")))
          given <- jsonlite::fromJSON(commandArgs(TRUE)[1])
          values <- given$values
          colnames(values) <- given$names
          methods <- c("cor", "WGCNA", "bicor", "TOM", "ARACNE", "CLR", "MINE", "DTWMIC")
          found <- lapply(stats::setNames(methods, methods), function(method) {
            unname(infer(values, list(method = method, p = 6, alpha = 0.6, c = 15, measure = "MIC")))
          })
          cat(jsonlite::toJSON(found, digits = NA))
        """
        done = subprocess.run(
            ["Rscript", "--vanilla", "-e", program, str(file)],
            cwd=PROTOCOLS / "network-inference", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        weights: dict[str, Matrix] = json.loads(done.stdout)
        return weights

    @pytest.mark.parametrize("method", ["cor", "WGCNA", "bicor", "TOM", "ARACNE", "CLR"])
    def test_it_follows_the_definition(self, found: dict[str, Matrix], method: str) -> None:
        assert flat(found[method]) == pytest.approx(flat(expected(method)), abs=1e-9)
        assert all(found[method][i][i] == 0 for i in range(6))

    def test_dynamic_time_warping(self, found: dict[str, Matrix]) -> None:
        def way(x: list[float], y: list[float]) -> float:
            cost = [[math.inf] * (len(y) + 1) for _ in range(len(x) + 1)]
            for i, a in enumerate(x, 1):
                for j, b in enumerate(y, 1):
                    step = abs(a - b)
                    came = min(cost[i - 1][j] + step, cost[i][j - 1] + step, cost[i - 1][j - 1] + 2 * step)
                    cost[i][j] = step if i == j == 1 else came
            return cost[-1][-1]

        near = matrix(lambda i, j: 1 / (1 + way(COLUMNS[i], COLUMNS[j]) / 28))
        mic = found["MINE"]
        together = matrix(lambda i, j: math.sqrt((near[i][j] ** 2 + mic[i][j] ** 2) / 2))
        assert flat(found["DTWMIC"]) == pytest.approx(flat(together), abs=1e-9)

    def test_mic_sees_what_correlation_does_not(self, run_shipped: Run) -> None:
        """Reshef et al.: a noiseless function has 1, whatever its shape."""
        noise = random.Random(1)
        rows = [f"{x},{(x - 30) ** 2},{noise.random()}" for x in range(61)]
        content = "\n".join(["x,parabola,noise", *rows]).encode()
        row = table(run_shipped("network-inference", {"method": "MINE"}, data=content), "adjacency.csv")[0]
        assert number(row, "parabola") == pytest.approx(1, abs=1e-3)
        assert number(row, "noise") < 0.5
        row = table(run_shipped("network-inference", {"method": "cor"}, data=content), "adjacency.csv")[0]
        assert number(row, "parabola") == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("method", ["WGCNAFDR", "bicorFDR", "MINEFDR"])
    def test_shuffling_takes_edges_away_and_changes_none(
        self, run_shipped: Run, found: dict[str, Matrix], method: str
    ) -> None:
        kept = adjacency(run_shipped("network-inference", {"method": method, "fdr": 0.05}, data=data_csv()))
        whole = found[method.removesuffix("FDR")]
        assert all(k == 0 or k == pytest.approx(w) for k, w in zip(flat(kept), flat(whole), strict=True))
        assert 0 < sum(k > 0 for k in flat(kept)) < 30

    def test_edges_and_graph_are_of_the_threshold(self, run_shipped: Run) -> None:
        run = run_shipped("network-inference", {"method": "cor", "threshold": 0.6}, data=data_csv())
        edges = table(run, "edges.csv")
        strong = {(NAMES[i], NAMES[j]) for i, j in PAIRS if i < j and pearson()[i][j] >= 0.6}
        assert {(edge["from"], edge["to"]) for edge in edges} == strong
        graph = (run.outputs / "network.graphml").read_text()
        assert (graph.count("<node "), graph.count("<edge ")) == (6, len(strong))

    def test_the_most_varying_columns(self, run_shipped: Run) -> None:
        run = run_shipped("network-inference", {"top": 3}, data=data_csv())
        spread = sorted(range(6), key=lambda j: -statistics.stdev(COLUMNS[j]))[:3]
        assert [row["node"] for row in table(run, "adjacency.csv")] == [NAMES[j] for j in sorted(spread)]

    def test_too_few_samples(self, run_shipped: Run) -> None:
        run = run_shipped("network-inference", data=data_csv(DATA[:3]))
        assert (run.code, run.reason) == (65, "Only 3 observations: a network needs 4.")


def square(weights: Matrix, names: str = "abcdefgh") -> bytes:
    used = names[: len(weights)]
    lines = [",".join(["", *used])]
    lines += [",".join([name, *map(str, row)]) for name, row in zip(used, weights, strict=True)]
    return "\n".join(lines).encode()


def random_network(seed: int, nodes: int = 6) -> Matrix:
    mine = random.Random(seed)
    weights = [[0.0] * nodes for _ in range(nodes)]
    for i in range(nodes):
        for j in range(i):
            weights[i][j] = weights[j][i] = round(mine.random(), 3) if mine.random() < 0.6 else 0.0
    return weights


class TestDistance:
    def test_it_agrees_with_an_independent_implementation(self, run_shipped: Run) -> None:
        a, b, c = (random_network(seed) for seed in (1, 2, 3))
        parameters = {"rho": 2, "names": ["a", "b", "c"]}
        run = run_shipped(
            "network-distance", parameters, network_1=square(a), network_2=square(b), network_3=square(c)
        )
        pairs = by(table(run, "pairs.csv"), "first", "second")
        for (first, x), (second, y) in [(("a", a), ("b", b)), (("a", a), ("c", c)), (("b", b), ("c", c))]:
            found = number(pairs[first, second], "hamming", "ipsen_mikhailov", "him")
            assert found == pytest.approx(list(reference.him(x, y, 2)), abs=1e-6)
        rows = by(table(run, "distances.csv"), "network")
        assert rows["a"]["b"] == rows["b"]["a"] == pairs["a", "b"]["him"]

    def test_places_on_the_map_keep_the_distances(self, run_shipped: Run) -> None:
        """Three points always lie in a plane."""
        networks = {f"network_{i}": square(random_network(i)) for i in (1, 2, 3)}
        run = run_shipped("network-distance", {"distance": "H"}, **networks)
        places = by(table(run, "mds.csv"), "network")
        for row in table(run, "pairs.csv"):
            ends = [number(places[row[end]], "x", "y") for end in ("first", "second")]
            assert math.dist(*ends) == pytest.approx(number(row, "hamming"))

    def test_a_list_of_edges_is_the_same_as_a_table_in_any_order(self, run_shipped: Run) -> None:
        a = random_network(5)
        edges = [f"{'abcdef'[i]};{'abcdef'[j]};{a[i][j]}" for i in range(6) for j in range(i) if a[i][j]]
        turned = [row[::-1] for row in a[::-1]]
        content = "\n".join(["from;to;weight", *reversed(edges)]).encode()
        run = run_shipped("network-distance", network_1=content, network_2=square(turned, "fedcba"))
        (row,) = table(run, "pairs.csv")
        assert number(row, "hamming", "ipsen_mikhailov") == pytest.approx([0, 0], abs=1e-7)

    def test_one_network_is_compared_with_the_empty_one(self, run_shipped: Run) -> None:
        complete = [[float(i != j) for j in range(5)] for i in range(5)]
        run = run_shipped("network-distance", network_3=square(complete))
        (row,) = table(run, "pairs.csv")
        assert number(row, "hamming", "ipsen_mikhailov", "him") == pytest.approx([1, 1, 1])
        assert not (run.outputs / "mds.csv").exists()
        assert "compared with the empty network" in run.out

    def test_large_weights_are_scaled_when_asked(self, run_shipped: Run) -> None:
        a = [[0.0, 4.0, 0.0], [4.0, 0.0, 2.0], [0.0, 2.0, 0.0]]
        run = run_shipped("network-distance", {"scale": True}, network_1=square(a))
        assert number(table(run, "pairs.csv")[0], "hamming") == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("content", "code", "reason"),
        [
            (b",a,b\na,0,4\nb,4,0\n", 65, "The largest weight is 4"),
            (b",a,b\na,0,1\nb,0.5,0\n", 65, "'network_1' is not symmetric"),
            (b",a,b\na,0,1\n", 65, "'network_1' has 1 rows and 2 columns"),
            (b",a,b\na,0,1\nc,1,0\n", 65, "The first column of 'network_1' does not have"),
            (b"from,to,weight\na,b,-1\n", 1, "'network_1', line 2: '-1' is no weight"),
            (b",a,c\na,0,1\nc,1,0\n", 65, "'network_1' and 'network_2' are not on the same nodes"),
        ],
        ids=lambda value: str(value)[:25],
    )
    def test_says_what_does_not_fit(self, run_shipped: Run, content: bytes, code: int, reason: str) -> None:
        run = run_shipped("network-distance", network_1=content, network_2=b",a,b\na,0,1\nb,1,0\n")
        assert (run.code, run.reason[: len(reason)]) == (code, reason), run.error


class TestStability:
    def test_leave_one_out_by_its_definition(self, run_shipped: Run) -> None:
        run = run_shipped("network-stability", {"resmethods": "LOO", "distance": "H"}, data=data_csv())
        whole = pearson()
        parts = []
        for left_out in range(len(DATA)):
            rows = [row for index, row in enumerate(DATA) if index != left_out]
            parts.append(pearson([list(column) for column in zip(*rows, strict=True)]))
        found = [number(row, "distance") for row in table(run, "S.csv")]
        assert found == pytest.approx([reference.hamming(whole, part) for part in parts])
        among = [number(row, "distance") for row in table(run, "SI.csv")]
        pairs = [(i, j) for i in range(len(parts)) for j in range(i)]
        assert sorted(among) == pytest.approx(sorted(reference.hamming(parts[i], parts[j]) for i, j in pairs))
        nodes = by(table(run, "Sd.csv"), "node")
        degrees = [sum(part[2]) for part in parts]
        expected_sd = (max(degrees) - min(degrees)) / statistics.fmean(degrees)
        assert number(nodes["g2"], "stability") == pytest.approx(expected_sd)
        edges = by(table(run, "Sw.csv"), "from", "to")
        weights = [part[1][4] for part in parts]
        expected_sw = (max(weights) - min(weights)) / statistics.fmean(weights)
        assert number(edges["g1", "g4"], "stability") == pytest.approx(expected_sw)

    @pytest.mark.parametrize(
        ("parameters", "count"),
        [({"resmethods": "montecarlo", "h": 7}, 7), ({"resmethods": "kCV", "k": 2, "h": 3}, 6)],
        ids=str,
    )
    def test_as_many_resamplings_as_asked(
        self, run_shipped: Run, parameters: dict[str, Any], count: int
    ) -> None:
        run = run_shipped("network-stability", parameters | {"method": "ARACNE"}, data=data_csv())
        assert len(table(run, "S.csv")) == count
        rows = by(table(run, "summary.csv"), "indicator")
        assert int(rows["SI"]["count"]) == count * (count - 1) // 2
        assert number(rows["S"], "mean") > 0

    def test_nothing_is_more_stable_than_one_pattern(self, run_shipped: Run) -> None:
        rows = [[float(i * (j + 1)) for j in range(6)] for i in range(12)]
        run = run_shipped("network-stability", data=data_csv(rows))
        for row in table(run, "summary.csv"):
            assert number(row, "max") == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("rows", "parameters", "reason"),
        [
            (DATA[:5], {"k": 2}, "A resampling has 2 of the 5 observations"),
            (DATA, {"resmethods": "kCV", "k": 10, "h": 51}, "These are 510 resamplings"),
            (DATA, {"k": 50}, "14 observations can't be cut into 50 parts."),
        ],
        ids=lambda value: str(value)[-20:],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, rows: Matrix, parameters: dict[str, Any], reason: str
    ) -> None:
        run = run_shipped("network-stability", parameters, data=data_csv(rows))
        assert (run.code, run.reason[: len(reason)]) == (65, reason), run.error


class TestStatistics:
    def test_the_karate_club(self, run_shipped: Run) -> None:
        """Zachary (1977), and figures found many times since: clustering 0.2557, modularity up to 0.4198."""
        run = run_shipped("network-statistics")
        figures = {row["figure"]: float(row["value"]) for row in table(run, "statistics.csv")}
        assert (figures["nodes"], figures["edges"], figures["components"]) == (34, 78, 1)
        assert figures["density"] == pytest.approx(78 / (34 * 33 / 2))
        assert figures["clustering"] == pytest.approx(0.2557, abs=1e-4)
        assert figures["mean_path"] == pytest.approx(2.408, abs=1e-3)
        assert figures["radius_of_the_largest_component"] == 3
        assert figures["diameter_of_the_largest_component"] == 5
        assert 0.40 < figures["modularity"] < 0.4199
        nodes = table(run, "nodes.csv")
        assert [(row["node"], row["degree"]) for row in nodes[:3]] == [
            ("34", "17"),
            ("1", "16"),
            ("33", "12"),
        ]
        assert number(by(nodes, "node")["1"], "betweenness") == pytest.approx(231.0714, abs=1e-3)
        assert [row["node"] for row in nodes if row["hub"] == "yes"] == ["34", "1", "33", "3"]

    def test_modularity_is_that_of_the_communities(self, run_shipped: Run) -> None:
        weights = random_network(9, 8)
        run = run_shipped("network-statistics", {"communities": "walktrap"}, network=square(weights))
        figures = {row["figure"]: float(row["value"]) for row in table(run, "statistics.csv")}
        member = {row["node"]: row["community"] for row in table(run, "nodes.csv")}
        strength = [sum(row) for row in weights]
        total = sum(strength)
        names = "abcdefgh"
        inside = [(i, j) for i in range(8) for j in range(8) if member[names[i]] == member[names[j]]]
        q = sum(weights[i][j] - strength[i] * strength[j] / total for i, j in inside) / total
        assert figures["modularity"] == pytest.approx(q)

    @pytest.mark.parametrize("method", ["greedy", "infomap", "spinglass"])
    def test_two_groups_and_a_node_alone(self, run_shipped: Run, method: str) -> None:
        weights = [
            [float(i != j and i // 3 == j // 3 and i < 6 and j < 6) for j in range(7)] for i in range(7)
        ]
        run = run_shipped("network-statistics", {"communities": method}, network=square(weights))
        member = {row["node"]: row["community"] for row in table(run, "nodes.csv")}
        assert member["a"] == member["b"] == member["c"] != member["d"] == member["e"] == member["f"]
        figures = {row["figure"]: float(row["value"]) for row in table(run, "statistics.csv")}
        assert (figures["components"], figures["nodes_alone"], figures["communities"]) == (3, 1, 3)

    @pytest.mark.parametrize(
        ("content", "parameters", "reason"),
        [
            (b",a,b\na,0,0\nb,0,0\n", {}, "The network has no edge of at least 0"),
            (b",a,b\na,0,0.4\nb,0.4,0\n", {"threshold": 0.5}, "The network has no edge of at least 0.5; its"),
            (b"network,from,to\nx,a,b\ny,a,b\n", {}, "The list has 2 networks"),
        ],
        ids=lambda value: str(value)[:25],
    )
    def test_says_what_does_not_fit(
        self, run_shipped: Run, content: bytes, parameters: dict[str, Any], reason: str
    ) -> None:
        run = run_shipped("network-statistics", parameters, network=content)
        assert (run.code, run.reason[: len(reason)]) == (65, reason), run.error
