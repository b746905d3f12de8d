"""Models of cells, against the same equations by hand and another solver, and against the literature."""

from __future__ import annotations

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labfleet.protocols.manifest import read_manifest
from labfleet.protocols.schema import faults_of_value, with_defaults

from .conftest import PROTOCOLS, Run, told
from .reading import by, number, table

HERE = Path(__file__).parent
SAMPLE = (PROTOCOLS / "action-potential" / "sample-model.cellml").read_text(encoding="utf-8")
MEASURES = ("resting", "peak", "dvdt_max", "apd30", "apd50", "apd90")
Libraries = Callable[[str], dict[str, str]]
Several = Callable[..., list[Run]]


def python(libraries: Libraries, script: str, *arguments: str, **more: Any) -> str:
    """What a script beside this one prints, by the Python of the protocols' environment."""
    command = ["python3", str(HERE / script), *arguments]
    return subprocess.run(
        command,
        env=libraries("action-potential"),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        **more,
    ).stdout


@pytest.fixture(scope="module")
def reference(libraries: Libraries) -> Callable[..., Any]:
    """`reference(name, **arguments)`: a computation of `cells.py`."""
    return lambda name, **arguments: json.loads(python(libraries, "cells.py", name, json.dumps(arguments)))


@pytest.fixture(scope="module")
def dressed(libraries: Libraries, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """`dressed(name)`: the sample's cell in one of the clothes of `models.py`."""
    folder = tmp_path_factory.mktemp("models")
    python(libraries, "models.py", str(PROTOCOLS / "action-potential" / "sample-model.cellml"), str(folder))
    return lambda name: (folder / f"{name}.cellml").read_bytes()


@pytest.fixture
def several(libraries: Libraries, tmp_path: Path) -> Several:
    """`several(name, (parameters, model[, states]) …)`: many runs in one process; no model is the sample."""

    def run(name: str, *cases: tuple[dict[str, Any], *tuple[bytes | None, ...]]) -> list[Run]:
        manifest = read_manifest((PROTOCOLS / name / "protocol.yml").read_bytes())
        asked = []
        for place, (parameters, *contents) in enumerate(cases):
            filled = with_defaults(manifest.parameters, parameters)
            assert not faults_of_value(manifest.parameters, filled)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-{place}-", dir=tmp_path))
            paths = {part: folder / part for part in ("inputs", "outputs")}
            for path in paths.values():
                path.mkdir(parents=True)
            for slot, content in zip(("model", "states"), contents, strict=False):
                if content is not None:
                    (paths["inputs"] / slot).write_bytes(content)
            paths |= {part: folder / part for part in ("parameters", "progress")}
            paths["parameters"].write_text(json.dumps(filled))
            asked.append({part: str(path) for part, path in paths.items()})
        environment = libraries(name) | {"TMPDIR": str(tmp_path)}
        done = subprocess.run(
            ["python3", str(HERE / "several.py")],
            cwd=PROTOCOLS / name,
            env=environment,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [
            Run(
                each["code"],
                each["out"],
                each["error"],
                Path(paths["outputs"]),
                told(Path(paths["progress"])),
            )
            for each, paths in zip(json.loads(done.stdout), asked, strict=True)
        ]

    return run


def last_beat(run: Run) -> dict[str, str]:
    return table(run, "beats.csv")[-1]


def broken(text: str, old: str, new: str) -> bytes:
    assert old in text
    return text.replace(old, new, 1).encode()


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


EQUATION = "<ci>E_b</ci>\n          </apply>"
ENTITY = '<!DOCTYPE model [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<model '
UTF_16 = SAMPLE.replace("<model ", ENTITY, 1).replace('"UTF-8"', '"UTF-16"').encode("utf-16")
IMPORT = (
    '  <import xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="file:///etc/passwd"/>\n  <component '
)
FAULTS = {
    "entities": (broken(SAMPLE, "<model ", ENTITY), 1, "Line 3: the file has a document type (DOCTYPE)"),
    "entities in another encoding": (UTF_16, 1, "The file has a document type (DOCTYPE)"),
    "no end": (
        SAMPLE[:9000].encode(),
        1,
        f"Line {SAMPLE[:9000].count(chr(10)) + 1}: the file is no well-formed XML",
    ),
    "unknown variable": (
        broken(SAMPLE, EQUATION, EQUATION.replace("E_b", "E_x")),
        1,
        f"The model has a fault: Error on line {line_of(SAMPLE, EQUATION)}.",
    ),
    "an import": (
        broken(SAMPLE.replace("cellml/1.0#", "cellml/1.1#"), "  <component ", IMPORT),
        1,
        "The model has a fault: ",
    ),
    "no value": (
        broken(SAMPLE, ' initial_value="0.03921"', ""),
        1,
        "The model has a fault: background.g_b has neither",
    ),
    "no initial value": (
        broken(SAMPLE, ' initial_value="-84.38"', ""),
        1,
        "The model has a fault: membrane.V has a derivative",
    ),
    "deep": (
        broken(SAMPLE, "<ci>E_b</ci>", "<apply><minus/>" * 300 + "<ci>E_b</ci>" + "</apply>" * 300),
        1,
        f"Line {line_of(SAMPLE, EQUATION)}: the file is no well-formed XML: Excessive depth",
    ),
    "division by zero": (
        broken(
            SAMPLE,
            '<variable name="C" units="uF_per_cm2" initial_value="1"',
            '<variable name="C" units="uF_per_cm2" initial_value="0"',
        ),
        1,
        "The equations can't be solved beyond 0 ms",
    ),
    "empty": (b" \n", 65, "The file is empty"),
    "binary": (b"\x89PNG\r\n\x00\x00", 65, "The file is no XML"),
    "json": (b'{"a": [1, 2]}', 65, "The file is no XML"),
    "sbml": (
        b'<sbml xmlns="http://www.sbml.org/sbml/level2"><model/></sbml>',
        65,
        "The file is XML, but no CellML",
    ),
}


class TestModels:
    """What is read, found and refused; the four protocols have the same files for it."""

    def test_faults_are_told_in_one_line(self, several: Several) -> None:
        runs = several("action-potential", *(({}, content) for content, _, _ in FAULTS.values()))
        for (name, (_, code, reason)), run in zip(FAULTS.items(), runs, strict=True):
            assert (run.code, run.reason[: len(reason)]) == (code, reason), f"{name}: {run.error}"
            assert len(run.error.strip().splitlines()) == 1, name
            assert not any(run.outputs.iterdir()), name
        assert "aaaa" not in "".join(run.error + run.out for run in runs)

    def test_missing_terms_are_named(self, several: Several, dressed: Callable[[str], bytes]) -> None:
        unlike = SAMPLE.replace(
            '<variable name="time" units="ms"', '<variable name="time" units="mV"'
        ).encode()
        cases: list[tuple[dict[str, Any], bytes | None, str]] = [
            ({}, dressed("without_potential"), "membrane_voltage"),
            ({}, dressed("renamed"), "membrane_voltage"),
            ({}, dressed("stimulates_itself"), "membrane_stimulus_current"),
            ({}, unlike, "The model's time is in mV, which can't be converted to ms"),
            ({"voltage": "membrane.C"}, None, "membrane_voltage as a state"),
            ({"voltage": "membrane.U"}, None, "no variable 'membrane.U'"),
            ({"stimulus": "membrane.V"}, None, "name another variable"),
            ({"stimulus": "stimulus.amplitude"}, None, "does not change the membrane potential"),
            ({"currents": ["sodium.i_Na", "V2"]}, None, "no variable 'V2'"),
            ({"duration": 1000}, None, "The stimulus lasts as long as the period"),
            ({"sampling": 0.001, "recorded": 10}, None, "More than 500000 points"),
        ]
        runs = several("action-potential", *((parameters, model) for parameters, model, _ in cases))
        for (parameters, _, reason), run in zip(cases, runs, strict=True):
            assert run.code == 65, (parameters, reason, run.error)
            assert reason in run.reason, parameters
            assert not any(run.outputs.iterdir()), parameters

    def test_the_same_cell_in_other_clothes(self, several: Several, dressed: Callable[[str], bytes]) -> None:
        names = ("plain", "volts", "without_stimulus", "turned")
        found = {"voltage": "x1", "stimulus": "x2"}
        cases = [({}, None), *(({}, dressed(name)) for name in names), (found, dressed("renamed"))]
        runs = several("action-potential", *(({"beats": 2, **more}, model) for more, model in cases))
        measures = [number(last_beat(run), *MEASURES) for run in runs]
        for name, values in zip((*names, "renamed"), measures[1:], strict=True):
            assert values == pytest.approx(measures[0], rel=1e-3, abs=0.01), name
        taken = {row["role"]: row for row in table(runs[1], "model.csv")}
        assert taken["membrane potential"]["variable"] == "membrane.V"
        assert taken["stimulus"]["found_by"] == "name and unit"
        assert "has no unit; mV is assumed" in runs[-1].out


class TestActionPotential:
    def test_agrees_with_another_solver(self, several: Several, reference: Callable[..., Any]) -> None:
        (run,) = several(
            "action-potential", ({"beats": 3, "period": 600, "amplitude": 60, "duration": 0.8}, None)
        )
        expected = reference("paced", period=600, beats=3, rate=60, duration=0.8, lead=50)
        row = last_beat(run)
        for name in ("apd30", "apd50", "apd90", "resting", "peak"):
            assert number(row, name) == pytest.approx(expected[name], abs=0.02), name
        assert number(row, "dvdt_max") == pytest.approx(expected["dvdt_max"], rel=0.01)

    def test_luo_and_rudy_1991(self, run_shipped: Callable[..., Run]) -> None:
        """They tell of a rise at some 400 V/s, and a rest close to potassium's potential of some -84 mV."""
        run = run_shipped(
            "action-potential", {"recorded": 2, "beats": 2, "lead": 20, "currents": ["i_Na", "Ca_i"]}
        )
        row = last_beat(run)
        assert number(row, "resting") == pytest.approx(-84.4, abs=0.5)
        assert number(row, "dvdt_max") == pytest.approx(400, rel=0.05)
        assert 340 < number(row, "apd90") < 380
        potential = table(run, "potential.csv")
        assert [number(row, "time") for row in (potential[0], potential[-1])] == [-20, 2000]
        assert max(number(row, "potential") for row in potential) == pytest.approx(number(row, "peak"), abs=2)
        currents = table(run, "currents.csv")
        assert list(currents[0]) == ["time", "sodium.i_Na", "calcium.Ca_i"]
        assert min(number(row, "sodium.i_Na") for row in currents) < -50

    def test_a_weak_stimulus(self, several: Several) -> None:
        (run,) = several("action-potential", ({"amplitude": 5, "beats": 1}, None))
        row = last_beat(run)
        assert (row["action_potential"], row["apd90"]) == ("no", "")
        assert number(row, "amplitude") == pytest.approx(5, abs=1)
        assert "0 of 1 beats" in run.out


class TestRestitution:
    ASKED: dict[str, Any] = {"beats": 2, "period": 500}  # noqa: RUF012
    INTERVALS = (500, 400, 380, 350, 300)

    def test_agrees_with_another_solver(self, several: Several, reference: Callable[..., Any]) -> None:
        (run,) = several("restitution", ({**self.ASKED, "intervals": list(self.INTERVALS)}, None))
        rows = by(table(run, "restitution.csv"), "interval")
        assert [float(interval) for interval in rows] == list(self.INTERVALS)
        expected = reference("early", **self.ASKED, rate=40, duration=1, interval=380)
        for name in ("apd30", "apd50", "apd90", "peak"):
            assert number(rows["380"], name) == pytest.approx(expected[name], abs=0.03), name
        assert number(rows["380"], "dvdt_max") == pytest.approx(expected["dvdt_max"], rel=0.02)
        # The even action potentials are what `action-potential` measures.
        (paced,) = several("action-potential", ({**self.ASKED, "lead": 0}, None))
        apd, upstroke = number(last_beat(paced), "apd90", "upstroke")
        for interval in self.INTERVALS:
            rest = number(rows[str(interval)], "diastolic_interval")
            assert rest == pytest.approx(interval - apd - upstroke, abs=0.05)
            assert (rows[str(interval)]["captured"] == "yes") is (rest >= 0)

    def test_the_curve_of_luo_and_rudy(self, several: Several) -> None:
        """Longer diastolic intervals give longer action potentials; for short ones the slope is above 1."""
        (run,) = several("restitution", ({"beats": 3, "longest": 700, "shortest": 320, "step": 20}, None))
        points = [number(row, "diastolic_interval", "apd") for row in table(run, "curve.csv")]
        assert len(points) > 10
        assert points == sorted(points)
        assert [apd for _, apd in points] == sorted(apd for _, apd in points)
        (summary,) = table(run, "summary.csv")
        assert number(summary, "steepest_slope") > 1
        assert number(summary, "longest_lost") == number(summary, "shortest_captured") - 20
        traces = table(run, "traces.csv")
        assert list(traces[0])[:3] == ["time", "700 ms", "680 ms"]
        assert max(number(row, "700 ms") for row in traces) == pytest.approx(40, abs=5)

    def test_what_does_not_apply(self, several: Several) -> None:
        weak, upside, many = several(
            "restitution",
            ({"amplitude": 1, "beats": 1}, None),
            ({"shortest": 2000}, None),
            ({"step": 0.1}, None),
        )
        assert (weak.code, "call forth no action potential" in weak.reason) == (65, True)
        assert (upside.code, "exchange them" in upside.reason) == (65, True)
        assert (many.code, "More than 500 intervals" in many.reason) == (65, True)


class Axon:
    """Hodgkin and Huxley's gates at a held potential, in closed form."""

    def __init__(self, voltage: float) -> None:
        v = voltage + 65
        self.voltage = voltage
        self.m = (_over(25 - v, 10), 4 * math.exp(-v / 18))
        self.h = (0.07 * math.exp(-v / 20), 1 / (math.exp((30 - v) / 10) + 1))
        self.n = (0.1 * _over(10 - v, 10), 0.125 * math.exp(-v / 80))

    def gate(self, name: str, begin: float, time: float) -> float:
        opening, closing = getattr(self, name)
        end = self.end(name)
        return float(end - (end - begin) * math.exp(-time * (opening + closing)))

    def end(self, name: str) -> float:
        opening, closing = getattr(self, name)
        return float(opening / (opening + closing))

    def sodium(self, before: Axon, time: float) -> float:
        m, h = (self.gate(name, before.end(name), time) for name in "mh")
        return 120 * m**3 * h * (self.voltage - 50)

    def potassium(self, before: Axon, time: float) -> float:
        return 36 * self.gate("n", before.end("n"), time) ** 4 * (self.voltage + 77)


def _over(difference: float, scale: float) -> float:
    """0.1 x / (exp(x / scale) - 1), and what it tends to where x is 0."""
    return 0.1 * scale if difference == 0 else 0.1 * difference / (math.exp(difference / scale) - 1)


class TestIVCurve:
    def test_agrees_with_the_closed_form(self, several: Several) -> None:
        """At -55 and -40 mV a rate of the model is 0/0."""
        (run,) = several("iv-curve", ({"first": -55, "last": 20, "step": 15, "hold": 500}, None))
        rows = by(table(run, "currents.csv"), "current", "voltage")
        rest = Axon(-80)
        times = [step * 0.001 for step in range(20_001)]
        for voltage in (-55, -40, -25, -10, 5, 20):
            axon = Axon(voltage)
            sodium = [axon.sodium(rest, time) for time in times]
            peak = min(sodium)
            row = rows["sodium.i_Na", str(voltage)]
            assert number(row, "peak") == pytest.approx(peak, rel=2e-4), voltage
            assert number(row, "peak_time") == pytest.approx(times[sodium.index(peak)], abs=0.02), voltage
            assert number(row, "steady") == pytest.approx(sodium[-1], rel=2e-4), voltage
            steady = number(rows["potassium.i_K", str(voltage)], "steady")
            assert steady == pytest.approx(axon.potassium(rest, 20), rel=2e-4), voltage
        curve = by(table(run, "curve.csv"), "voltage")
        assert curve["5"]["sodium.i_Na peak"] == rows["sodium.i_Na", "5"]["peak"]

    def test_the_traces(self, several: Several) -> None:
        asked = {"first": -10, "last": 10, "step": 10, "currents": ["i_Na"], "sampling": 0.1}
        (run,) = several("iv-curve", (asked, None))
        traces = by(table(run, "traces.csv"), "time")
        assert list(traces["0"]) == ["time", "-10 mV", "0 mV", "10 mV"]
        assert number(traces["0.5"], "0 mV") == pytest.approx(Axon(0).sodium(Axon(-80), 0.5), rel=1e-3)
        assert abs(number(traces["-1"], "0 mV")) < 0.1
        assert {row["current"] for row in table(run, "currents.csv")} == {"sodium.i_Na"}

    def test_another_model_and_what_does_not_apply(
        self, several: Several, dressed: Callable[[str], bytes]
    ) -> None:
        asked = {"first": -20, "last": 0, "hold": 1000, "currents": ["membrane_fast_sodium_current"]}
        millivolts, volts, upside = several(
            "iv-curve",
            (asked, SAMPLE.encode()),
            ({**asked, "currents": ["i_Na"]}, dressed("volts")),
            ({"first": 80}, None),
        )
        peaks = [[number(row, "peak") for row in table(run, "currents.csv")] for run in (millivolts, volts)]
        assert peaks[1] == pytest.approx(peaks[0], rel=1e-3)
        assert peaks[0][0] < -200
        assert (upside.code, "exchange them" in upside.reason) == (65, True)


class TestSteadyState:
    def test_an_axon_at_rest(self, several: Several) -> None:
        """Where it rests all gates are as open as their rates say, and the currents cancel each other."""
        axon = (PROTOCOLS / "iv-curve" / "sample.cellml").read_bytes()
        (run,) = several(
            "steady-state", ({"paced": False, "period": 50, "change": 1e-7, "voltage": "V"}, axon)
        )
        states = by(table(run, "states.csv"), "state")
        voltage = number(states["membrane.V"], "value")
        assert voltage == pytest.approx(-65, abs=0.01)
        rest = Axon(voltage)
        for component, gate in (("sodium", "m"), ("sodium", "h"), ("potassium", "n")):
            assert number(states[f"{component}.{gate}"], "value") == pytest.approx(rest.end(gate), rel=1e-5)
        leak = 0.3 * (voltage + 54.387)
        assert rest.sodium(rest, 0) + rest.potassium(rest, 0) + leak == pytest.approx(0, abs=1e-4)
        (summary,) = table(run, "summary.csv")
        assert (summary["reached"], summary["apd90"]) == ("yes", "")

    def test_paced_and_not_reached(self, several: Several, reference: Callable[..., Any]) -> None:
        reached, short = several("steady-state", ({}, None), ({"beats": 2, "change": 1e-9}, None))
        (summary,) = table(reached, "summary.csv")
        assert summary["reached"] == "yes"
        expected = reference("paced", period=1000, beats=6, rate=40, duration=1, lead=0)
        for name in ("resting", "peak", "apd90"):
            assert number(summary, name) == pytest.approx(expected[name], abs=0.02), name
        changes = [number(row, "largest_change") for row in table(reached, "convergence.csv")]
        assert all(change <= 1e-4 for change in changes[-3:])
        assert changes[-4] > 1e-4
        (summary,) = table(short, "summary.csv")
        assert (summary["reached"], summary["beats"]) == ("no", "2")
        assert "Not reached within 2 beats" in short.out


def states_of(run: Run) -> bytes:
    assert run.code == 0, run.error
    return (run.outputs / "states.csv").read_bytes()


class TestStates:
    """What one run ends with another begins from; the four protocols have the same file for it."""

    def test_two_runs_are_one_of_as_many_beats(self, several: Several, reference: Callable[..., Any]) -> None:
        asked = {"period": 400, "lead": 0, "tolerance": 1e-8}
        first, whole = several(
            "action-potential", ({**asked, "beats": 2}, None), ({**asked, "beats": 4}, None)
        )
        (second,) = several("action-potential", ({**asked, "beats": 2}, None, states_of(first)))
        assert "It begins from the 8 states of the table." in second.out
        expected = number(last_beat(whole), *MEASURES)
        assert number(last_beat(second), *MEASURES) == pytest.approx(expected, rel=1e-6)
        assert number(last_beat(first), "apd90") != pytest.approx(expected[-1], abs=0.1)
        ended, once = (by(table(run, "states.csv"), "state") for run in (second, whole))
        assert list(ended) == list(once) and len(ended) == 8
        for name, row in ended.items():
            assert number(row, "value") == pytest.approx(number(once[name], "value"), rel=1e-6), name
            assert row["unit"] == once[name]["unit"]
        by_hand = reference("paced", period=400, beats=4, rate=40, duration=1, lead=0)
        for name in ("resting", "peak", "apd90"):
            assert number(last_beat(second), name) == pytest.approx(by_hand[name], abs=0.02), name

    def test_they_go_from_protocol_to_protocol(self, several: Several) -> None:
        asked = {"period": 500, "beats": 2, "tolerance": 1e-8}
        (start,) = several("steady-state", ({**asked, "change": 1e-9}, None))
        more = {"intervals": [500, 400]}
        early, whole = several(
            "restitution",
            ({**asked, **more}, None, states_of(start)),
            ({**asked, **more, "beats": 4}, None),
        )
        for one, other in zip(table(early, "restitution.csv"), table(whole, "restitution.csv"), strict=True):
            for name in ("diastolic_interval", "apd90", "peak"):
                assert number(one, name) == pytest.approx(number(other, name), rel=1e-6), name
        (paced,) = several("action-potential", ({**asked, "lead": 0}, None, states_of(early)))
        (once,) = several("action-potential", ({**asked, "beats": 6, "lead": 0}, None))
        assert number(last_beat(paced), *MEASURES) == pytest.approx(
            number(last_beat(once), *MEASURES), rel=1e-4
        )
        (again,) = several("steady-state", ({**asked, "beats": 1}, None, states_of(start)))
        values = {row["state"]: row["value"] for row in table(start, "states.csv")}
        for row in table(again, "states.csv"):
            assert number(row, "initial") == pytest.approx(float(values[row["state"]]), rel=1e-8)

    def test_a_clamp_goes_on_holding(self, several: Several) -> None:
        asked = {"first": 0, "last": 0, "step": 10, "tolerance": 1e-9}
        (short,) = several("iv-curve", ({**asked, "hold": 2}, None))
        on, whole = several(
            "iv-curve", ({**asked, "hold": 3}, None, states_of(short)), ({**asked, "hold": 5}, None)
        )
        peaks = [[number(row, "peak") for row in table(run, "currents.csv")] for run in (short, on, whole)]
        assert peaks[1] == pytest.approx(peaks[2], rel=1e-6)
        assert peaks[0] != pytest.approx(peaks[2], rel=1e-3)
        held = by(table(on, "states.csv"), "state")
        assert number(held["membrane.V"], "value") == -80

    def test_a_table_that_does_not_fit_is_refused(self, several: Several) -> None:
        (run,) = several("action-potential", ({"beats": 1}, None))
        good = states_of(run).decode()
        assert good.startswith("state,value,unit\r\ncalcium.Ca_i,0.000")
        own = good.replace(",", ";").replace(";mV", ";").replace("\r\n", "\n") + "\n"
        cases = {
            "unknown": (good.replace("membrane.V", "membrane.U"), 65, "The model has no state membrane.U;"),
            "missing": (good.rsplit("\r\n", 2)[0], 65, "The table of states lacks "),
            "unit": (good.replace(",mV", ",V"), 65, "has membrane.V in V, the model in mV"),
            "no unit": (good.replace(",mV", ",so so"), 65, "has membrane.V in so so, the model in mV"),
            "twice": (good + good.splitlines()[1], 1, "Line 10 of the table of states: 'calcium.Ca_i' s"),
            "no number": (
                good.replace("membrane.V,-", "membrane.V,x"),
                1,
                "Line 3 of the table of states: 'x",
            ),
            "infinite": (re.sub("V,[^,]*", "V,1e999", good), 1, "Line 3 of the table of states: '1e999' is"),
            "uneven": (good + "a,1", 1, "Line 10 of the table of states has 2 fields, the first one 3"),
            "no header": (good.split("\n", 1)[1], 1, "Line 1: the table of states needs the columns"),
            "empty": ("", 1, "Line 1: the table of states needs the columns"),
        }
        asked = {"beats": 1, "lead": 0}
        runs = several("action-potential", *((asked, None, text.encode()) for text, _, _ in cases.values()))
        for (name, (_, code, reason)), failed in zip(cases.items(), runs, strict=True):
            assert (failed.code, reason in failed.reason) == (code, True), f"{name}: {failed.error}"
            assert not any(failed.outputs.iterdir()), name
        binary, other = several(
            "action-potential", (asked, None, b"\xff\xfe"), (asked, None, own.encode("utf-8-sig"))
        )
        assert (binary.code, "no text" in binary.reason) == (1, True)
        assert other.code == 0, other.error
