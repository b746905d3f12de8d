"""The differential network analysis. Needs Rscript and the R packages of its manifest."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.r

DIRECTORY = Path(__file__).parents[2] / "protocols" / "differential-network"
SAMPLE = DIRECTORY / "sample.csv"
DEFAULTS: dict[str, Any] = {
    "genes": 50,
    "method": "pearson",
    "network": "threshold",
    "threshold": 0.6,
    "beta": 6,
    "xi": 1,
    "gamma": None,
    "classes": [],
    "seed": 1,
}
OUTPUTS = {
    *("distances.csv", "genes.csv", "edges_first.csv", "edges_second.csv", "networks.png", "networks.svg"),
    *("network_first.graphml", "network_second.graphml"),
}
Matrix = list[list[float]]


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()


@pytest.fixture(autouse=True, scope="session")
def _r_is_here() -> None:
    if shutil.which("Rscript") is None:
        pytest.fail("Rscript is missing: install r-base-core r-bioc-multtest r-cran-igraph r-cran-jsonlite.")


@pytest.fixture
def analyse(run_protocol: Callable[..., Any]) -> Callable[..., Any]:
    def run(content: bytes | None = None, **parameters: Any) -> Any:
        inputs = {} if content is None else {"expression": content}
        command = ["Rscript", "--vanilla", "main.R"]
        return run_protocol("differential-network", command, DEFAULTS | parameters, **inputs)

    return run


def table(run: Any, name: str) -> list[dict[str, str]]:
    assert run.code == 0, run.error
    with (run.outputs / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def distances(run: Any) -> dict[str, float]:
    return {row["measure"]: float(row["value"]) for row in table(run, "distances.csv")}


def by_r(cases: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, float]]:
    """The distances of many pairs of networks, by the protocol's own code in one R process."""
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    program = """
      source("lib/distance.R")
      cases <- jsonlite::fromJSON(commandArgs(TRUE)[1], simplifyDataFrame = FALSE)
      found <- lapply(cases, function(case) him_distance(case$a, case$b, case$xi))
      cat(jsonlite::toJSON(found, auto_unbox = TRUE, digits = NA))
    """
    done = subprocess.run(
        ["Rscript", "--vanilla", "-e", program, str(tmp_path / "cases.json")],
        cwd=DIRECTORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: list[dict[str, float]] = json.loads(done.stdout)
    return answer


def constant(n: int, weight: float) -> Matrix:
    return [[0.0 if i == j else weight for j in range(n)] for i in range(n)]


def chance_network(chance: random.Random, n: int, density: float, weighted: bool) -> Matrix:
    matrix = constant(n, 0.0)
    for i in range(n):
        for j in range(i):
            if chance.random() < density:
                matrix[i][j] = matrix[j][i] = chance.random() if weighted else 1.0
    return matrix


@pytest.mark.parametrize("n", [2, 3, 10, 50, 300])
def test_from_the_empty_to_the_complete_network_it_is_one(n: int, tmp_path: Path) -> None:
    cases = [{"a": constant(n, 0.0), "b": constant(n, 1.0), "xi": xi} for xi in (0, 0.5, 1, 10)]
    for found in by_r(cases, tmp_path):
        assert found["hamming"] == pytest.approx(1, abs=1e-12)
        assert found["im"] == pytest.approx(1, abs=1e-9)
        assert found["him"] == pytest.approx(1, abs=1e-9)


def test_from_a_network_to_itself_it_is_zero(tmp_path: Path) -> None:
    chance = random.Random(1)
    networks = [chance_network(chance, n, 0.4, weighted) for n in (3, 12, 30) for weighted in (False, True)]
    for found in by_r([{"a": a, "b": a, "xi": 1} for a in networks], tmp_path):
        assert found["hamming"] == 0
        assert found["im"] == pytest.approx(0, abs=1e-7)
        assert found["him"] == pytest.approx(0, abs=1e-7)


def test_it_agrees_with_an_independent_implementation(tmp_path: Path) -> None:
    chance = random.Random(2)
    cases = []
    for n in (3, 5, 8, 12):
        for weighted in (False, True):
            pair = [chance_network(chance, n, density, weighted) for density in (0.3, 0.7)]
            cases.append({"a": pair[0], "b": pair[1], "xi": chance.choice([0, 0.5, 1, 3])})
    for case, found in zip(cases, by_r(cases, tmp_path), strict=True):
        expected = reference.him(case["a"], case["b"], case["xi"])
        assert (found["hamming"], found["im"], found["him"]) == pytest.approx(expected, abs=1e-6)
        assert found["gamma"] == pytest.approx(reference.gamma_of(len(case["a"])), abs=1e-6)


def test_it_is_symmetric_and_does_not_depend_on_the_order_of_nodes(tmp_path: Path) -> None:
    chance = random.Random(3)
    a, b = (chance_network(chance, 15, 0.4, True) for _ in range(2))
    order = chance.sample(range(15), 15)
    shuffled = [[[m[i][j] for j in order] for i in order] for m in (a, b)]
    one, two, three = by_r(
        [{"a": a, "b": b, "xi": 1}, {"a": b, "b": a, "xi": 1}, {"a": shuffled[0], "b": shuffled[1], "xi": 1}],
        tmp_path,
    )
    assert two == pytest.approx(one, abs=1e-9)
    assert three == pytest.approx(one, abs=1e-9)


def test_networks_of_one_shape_differ_by_hamming_alone(tmp_path: Path) -> None:
    """A star around node 1 and one around node 2 have the same spectrum."""
    stars = [[[float((i == hub) != (j == hub)) for j in range(8)] for i in range(8)] for hub in (0, 1)]
    (found,) = by_r([{"a": stars[0], "b": stars[1], "xi": 1}], tmp_path)
    assert found["im"] == pytest.approx(0, abs=1e-7)
    assert found["him"] == pytest.approx(found["hamming"] / math.sqrt(2), abs=1e-9)


def test_the_golub_data(analyse: Callable[..., Any]) -> None:
    run = analyse()
    found = distances(run)
    assert {path.name for path in run.outputs.iterdir()} == OUTPUTS
    assert found["nodes"] == 50
    assert 0 < found["him"] < 1
    assert found["him"] == pytest.approx(
        math.sqrt((found["hamming"] ** 2 + found["ipsen_mikhailov"] ** 2) / 2)
    )
    # Zyxin (X95735) is the gene that Golub et al. found first, too.
    genes = table(run, "genes.csv")
    assert (genes[0]["gene"], genes[0]["description"]) == ("X95735_at", "Zyxin")
    assert [abs(float(g["t"])) for g in genes] == sorted((abs(float(g["t"])) for g in genes), reverse=True)
    assert "27 samples ALL, 11 samples AML" in run.out
    shares = [share for share, _ in run.progress]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert run.error == ""


def test_distances_follow_from_the_edges_that_are_left(analyse: Callable[..., Any]) -> None:
    run = analyse()
    genes = [row["gene"] for row in table(run, "genes.csv")]
    place = {gene: index for index, gene in enumerate(genes)}
    networks = []
    for name in ("edges_first.csv", "edges_second.csv"):
        matrix = constant(len(genes), 0.0)
        for edge in table(run, name):
            i, j = place[edge["from"]], place[edge["to"]]
            matrix[i][j] = matrix[j][i] = float(edge["weight"])
        networks.append(matrix)
    expected = reference.him(networks[0], networks[1], 1)
    found = distances(run)
    assert (found["hamming"], found["ipsen_mikhailov"], found["him"]) == pytest.approx(expected, abs=1e-6)


def test_graphml_and_plots_are_what_they_say(analyse: Callable[..., Any]) -> None:
    run = analyse()
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    for place, name in (("first", "ALL"), ("second", "AML")):
        graph = ElementTree.parse(run.outputs / f"network_{place}.graphml").getroot().find("g:graph", space)
        assert graph is not None
        assert len(graph.findall("g:node", space)) == 50
        assert len(graph.findall("g:edge", space)) == distances(run)[f"edges_{name}"]
        assert any(data.text == name for data in graph.findall("g:data", space))
    assert (run.outputs / "networks.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(run.outputs / "networks.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "spearman"},
        {"network": "soft"},
        {"network": "soft", "threshold": 0.3, "beta": 1, "xi": 0},
        {"genes": 3},
        {"genes": 500, "threshold": 0.9},
        {"threshold": 1},
        {"gamma": 0.1},
        {"classes": ["AML", "ALL"]},
    ],
    ids=str,
)
def test_parameters(analyse: Callable[..., Any], parameters: dict[str, Any]) -> None:
    run = analyse(**parameters)
    found = distances(run)
    assert found["him"] >= 0
    assert {path.name for path in run.outputs.iterdir()} == OUTPUTS
    assert found["gamma"] == parameters.get("gamma") or found["gamma"] > 0.3


def test_a_run_is_repeatable(analyse: Callable[..., Any]) -> None:
    first = {path.name: path.read_bytes() for path in analyse(SAMPLE.read_bytes()).outputs.iterdir()}
    second = {path.name: path.read_bytes() for path in analyse(SAMPLE.read_bytes()).outputs.iterdir()}
    assert first == second


def test_own_data(analyse: Callable[..., Any]) -> None:
    run = analyse(SAMPLE.read_bytes(), genes=10)
    found = distances(run)
    assert found["nodes"] == 10
    assert {"edges_healthy", "edges_ill"} <= set(found)


def spoilt(old: str, new: str) -> bytes:
    text = SAMPLE.read_text()
    assert old in text
    return text.replace(old, new).encode()


ILL = ",ill,ill,ill,ill,ill,ill"
CONSTANT = b"gene,a,b,c,d,e,f,g,h\nclass,x,x,x,x,y,y,y,y\nG,1,1,1,1,1,1,1,1\n"
SAMPLE_BYTES = SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("content", "parameters", "code", "reason"),
    [
        (spoilt("8.956", "high"), {}, 1, "Line 3, column 2: 'high' is no number."),
        (spoilt("8.956,", ""), {}, 1, "The expression table"),
        (SAMPLE_BYTES, {"classes": ["healthy", "old"]}, 1, "There is no class 'old'"),
        (spoilt(ILL, ",healthy" * 6), {}, 65, "Two classes are compared; here are 1"),
        (spoilt(ILL, ",a,a,a,b,b,b"), {}, 65, "Two classes are compared; here are 3"),
        (spoilt(ILL, ",healthy" * 3 + ",ill" * 3), {}, 65, "Class 'ill' has"),
        (b"a,b\n1,2\n3,4\n", {}, 65, "The second line doesn't begin with 'class'"),
        (CONSTANT, {}, 65, "Fewer than 3 genes vary"),
        (b"", {}, 1, "The expression table can't be read"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_input_says_why(
    analyse: Callable[..., Any],
    content: Callable[[], bytes],
    parameters: dict[str, Any],
    code: int,
    reason: str,
) -> None:
    run = analyse(content, **parameters)
    assert run.code == code, run.error
    assert run.reason.startswith(reason), run.error


def test_missing_values_and_repeated_genes(analyse: Callable[..., Any]) -> None:
    run = analyse(spoilt("8.956", "NA").replace(b"G03", b"G02"), genes=24)
    assert distances(run)["nodes"] == 23
    assert "1 genes with missing values are left out" in run.out
    assert {"G02", "G02.1"} <= {row["gene"] for row in table(run, "genes.csv")}
