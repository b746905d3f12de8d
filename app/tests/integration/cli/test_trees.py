"""Jobs of several tasks through the command line; the worker's part is played over the attempt API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
PROTOCOLS = Path(__file__).parents[3] / "protocols"
TREE = """\
label: Stability
tree:
  sequential:
    - task: clean
      protocol: table-summary
      inputs: {table: DATASET}
    - task: fit
      protocol: table-summary
      inputs: {table: {task: clean, output: summary}}
      sweep: {grid: {parameters.top: [1, 2]}}
    - task: report
      protocol: table-summary
      inputs: {table: {task: "fit[0]", output: summary}}
"""
SWEEP = """\
tree:
  task: fit
  protocol: table-summary
  sweep:
    list:
"""


@dataclass
class Lab:
    """Submits the tree and plays the worker."""

    run: Run
    worker: Any
    dataset: str
    job: str = ""

    def submit(self, *more: str, text: str = TREE) -> dict[str, Any]:
        Path("job.yaml").write_text(text.replace("DATASET", self.dataset))
        job = self.json("submit", "job.yaml", *more)
        self.job = job["id"]
        return job

    def json(self, *arguments: str) -> Any:
        ended = self.run(*arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    def tasks(self) -> dict[str, Any]:
        return {task["name"]: task for task in self.json("tasks", self.job)["items"]}

    def do(self, name: str, outcome: str = "success", **more: Any) -> None:
        task = self.tasks()[name]
        number = task["attempt"]
        self.worker.claim(task["id"], number)
        self.worker.log(task["id"], 0, f"log of {name}\n".encode(), number)
        if outcome == "success":
            self.worker.artifact(task["id"], "summary.csv", f"{name}\n".encode(), number)
        self.worker.finish(task["id"], outcome, number, **more)

    def fail(self, name: str, failure: str = "user") -> None:
        self.do(name, "failed", failure=failure, exit_code=1, message="it broke")


@pytest.fixture
def lab(signed_in: Run, worker: Any, tmp_path: Path) -> Lab:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    ended = signed_in("datasets", "upload", "table.csv")
    assert ended.code == 0, ended.err
    return Lab(signed_in, worker, ended.out.strip())


def test_a_file_becomes_a_job_and_options_go_before_it(lab: Lab) -> None:
    job = lab.submit("--labels", "paper, 2026", "--note", "for the referee", "--priority", "-3", "--hold")
    assert (job["label"], job["labels"], job["note"]) == ("Stability", ["2026", "paper"], "for the referee")
    assert (job["priority"], job["held"], job["counts"]["total"]) == (-3, True, 4)
    assert list(lab.tasks()) == ["clean", "fit[0]", "fit[1]", "report"]
    told = lab.run("submit", "job.yaml", "--label", "Other", "--webhook", "https://example.org/hook").out
    assert told.startswith("Job ") and told.endswith("queued, 4 tasks\n")
    assert {item["label"] for item in lab.json("jobs")["items"]} == {"Stability", "Other"}


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_a_file_may_be_json_or_standard_input(lab: Lab, indent: Any) -> None:
    spec = {"protocol": "table-summary", "inputs": {"table": lab.dataset}, "parameters": {"top": 3}}
    ended = lab.run("submit", "-", "--json", stdin=json.dumps(spec, indent=indent))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["tasks"][0]["parameters"]["top"] == 3


def test_a_file_may_be_larger_than_a_manifest(lab: Lab) -> None:
    point = "      - {parameters: {top: %d}, inputs: {table: DATASET}}\n"
    points = "".join(point % (1 + number % 50) for number in range(4000))
    job = lab.submit(text=SWEEP + points)
    assert Path("job.yaml").stat().st_size > 256 * 1024
    assert job["counts"]["total"] == 4000
    faulty = (SWEEP + points + point % 99).replace("DATASET", lab.dataset)
    told = lab.run("validate", "-", stdin=faulty)
    assert (told.code, told.err.split(": ")[0]) == (1, "standard input:4006"), told.err


def test_a_dry_run_tells_lanes_and_workers_and_makes_nothing(
    lab: Lab, make_worker: Callable[..., str]
) -> None:
    make_worker("w7")
    Path("job.yaml").write_text(TREE.replace("DATASET", lab.dataset))
    lines = lab.run("submit", "job.yaml", "--dry-run").out.splitlines()
    assert lines[:2] == ["4 tasks of 1 protocol: table-summary", "Names: clean, fit, report"]
    assert lines[-1].split() == ["4", "python", "1", "512.0", "MiB", "10", "min", "w7"]
    assert lab.run("validate", "job.yaml").out == "OK: 4 tasks of 1 protocol\n"
    assert lab.json("validate", "job.yaml")["ok"] is True
    one = lab.run("submit", "table-summary", "-i", f"table={lab.dataset}", "--dry-run").out
    assert one.startswith("1 task of 1 protocol")
    assert lab.json("jobs")["items"] == []


FAULTS = """\
tree:
  sequential:
    - task: clean
      protocol: table-summary
      inputs:
        tabel: DATASET
    - task: fit
      protocol: table-summary
      inputs: {table: {task: clean, output: sum}}
      parameters:
        top: many
        topp: 3
    - task: other
      protocol: tabel-summary
    - task: swept
      protocol: table-summary
      inputs: {table: {task: clean, output: summary}}
      sweep:
        list:
          - parameters: {top: 1}
          - parameters: {top: 1000}
"""


def test_every_fault_is_told_with_its_line(lab: Lab) -> None:
    Path("bad.yaml").write_text(FAULTS.replace("DATASET", lab.dataset))
    ended = lab.run("validate", "bad.yaml")
    assert ended.code == 1
    assert [line.split(": ")[0] for line in ended.err.splitlines()] == [
        f"bad.yaml:{line}" for line in (6, 12, 11, 14, 21)
    ]
    for text in (
        "'tabel'",
        "'topp' was unexpected",
        "'many' is not of type",
        "tabel-summary",
        "maximum of 50",
    ):
        assert text in ended.err
    submitted = lab.run("submit", "bad.yaml")
    assert submitted.code == 1
    assert submitted.err.startswith("Error: bad.yaml:6: ")
    told = json.loads(lab.run("validate", "bad.yaml", "--json").out)
    assert (told["ok"], told["errors"][2]["line"]) == (False, 11)


CYCLE = """\
tree:
  sequential:
    - task: a
      protocol: table-summary
      inputs: {table: {task: b, output: summary}}
    - task: b
      protocol: table-summary
      inputs: {table: {task: a, output: summary}}
"""
MANY = json.dumps({"parameters.top": list(range(400)), "parameters.delimiter": ["comma"] * 400})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("protocol: a\nprotocol: b\n", "bad.yaml:2: The key 'protocol' stands here twice."),
        ("tree: [\n", "bad.yaml:2: The YAML is broken"),
        ("- a\n", "bad.yaml:1: a job is a mapping"),
        ("", "bad.yaml: the file is empty"),
        ('{"protocol": "a",\n "protocol": "b"}', "bad.yaml:2: The key 'protocol' stands here twice."),
        ("label: x\n", "write either protocol (one task) or tree (several)"),
        ("protocol: none\n", "bad.yaml:1: There is no protocol 'none'"),
        ("label: x\nprotocol: table-summary\nparameters:\n  top: 99\n", "needs a dataset"),
        (
            "tree:\n  task: a\n  protocol: table-summary\n  colour: red\n",
            "bad.yaml:4: tree.colour: Extra inputs",
        ),
        ("label: x\nunknown: 3\n", "bad.yaml:2: unknown: Extra inputs"),
        (CYCLE, "bad.yaml:5: tree.sequential.0.inputs: table: the task 'b' is not before it"),
        (
            CYCLE.replace("task: b, ", "task: c, "),
            "bad.yaml:5: tree.sequential.0.inputs: table: the job has no task",
        ),
        (
            CYCLE.replace("task: b\n", "task: a\n"),
            "bad.yaml:6: tree.sequential.1.task: the name 'a' is given",
        ),
        (
            "tree:\n  sequential:\n    - parallel: []\n",
            "bad.yaml:3: tree.sequential.0.parallel: List should have",
        ),
        (
            f"tree:\n  task: a\n  protocol: table-summary\n  sweep: {{grid: {MANY}}}\n",
            "bad.yaml:4: tree.sweep: the job",
        ),
        ("tree: " + "{sequential: [" * 10_000 + "]}" * 10_000, "bad.yaml:1: More than 40 levels"),
    ],
)
def test_what_is_no_job(lab: Lab, text: str, told: str) -> None:
    Path("bad.yaml").write_text(text)
    ended = lab.run("validate", "bad.yaml")
    assert ended.code == 1
    assert told in ended.err
    assert "Traceback" not in ended.err
    submitted = lab.run("submit", "bad.yaml")
    assert (submitted.code, told in submitted.err) == (1, True)
    assert lab.json("jobs")["items"] == []


def test_options_of_a_protocol_do_not_go_with_a_file(lab: Lab) -> None:
    ended = lab.run("submit", "job.yaml", "-p", "top=3")
    assert ended.code == 2
    assert "write them into FILE" in ended.err
    assert "nowhere.yaml can't be read" in lab.run("submit", "nowhere.yaml").err


def test_show_draws_the_tree_and_says_why_it_waits(lab: Lab) -> None:
    lab.submit()
    lab.do("clean")
    lab.fail("fit[1]")
    lines = lab.run("show", lab.job).out.splitlines()
    assert lines[0] == f"job {lab.job} running Stability"
    assert "  tasks      4: 1 success, 1 failed, 2 queued" in lines
    assert lines[lines.index("") + 1 :] == [
        "one after the other  1 of 3 ended",
        "├── clean  success",
        "├── fit (side by side)  1 of 2 ended, 1 lost",
        "│   ├── fit[0]  queued",
        "│   └── fit[1]  failed: it broke",
        "└── report  queued",
        "",
        "why they wait",
        "  fit[0]: No worker serves the key 'python'; served are: none.",
        "  report: It waits for tasks that come before it in its job.",
    ]
    state = lab.json("show", lab.job)
    assert [len(task["artifacts"]) for task in state["tasks"]] == [1, 0, 0, 0]


def test_show_gives_back_what_was_submitted(lab: Lab) -> None:
    lab.submit()
    spec = lab.run("show", lab.job, "--spec").out
    assert json.loads(spec)["tree"]["sequential"][1]["sweep"] == {"grid": {"parameters.top": [1, 2]}}
    assert lab.run("submit", "-", stdin=spec).code == 0


def test_tasks_are_listed_by_state_and_by_page(lab: Lab) -> None:
    lab.submit()
    lab.do("clean")
    first = lab.run("tasks", lab.job, "--limit", "1")
    assert first.out.splitlines()[1].split()[:3] == ["clean", "success", "table-summary"]
    assert "--after" in first.err
    cursor = first.err.split()[-1]
    assert "fit[0]" in lab.run("tasks", lab.job, "--limit", "1", "--after", cursor).out
    assert [task["name"] for task in lab.json("tasks", lab.job, "--state", "success")["items"]] == ["clean"]
    assert "No such tasks" in lab.run("tasks", lab.job, "--state", "failed").err


def test_watch_tells_counts_and_failures(lab: Lab) -> None:
    lab.submit()

    tasks = {name: task["id"] for name, task in lab.tasks().items()}
    thread = threading.Timer(0.7, lab_worker_only, (lab, tasks))
    thread.start()
    ended = lab.run("watch", lab.job)
    thread.join()
    assert ended.code == 4, ended.err
    lines = ended.out.splitlines()
    assert "  0% 4 queued" in lines
    assert any(line.endswith("failed fit[1]: it broke") for line in lines)
    assert any("waits: No worker serves" in line for line in lines)
    assert lines[-1] == "Job partial: 2 success, 1 failed, 1 skipped"


def lab_worker_only(lab: Lab, tasks: dict[str, str]) -> None:
    """The worker's part of a job whose `fit[1]` fails, without the command line (which is in use)."""
    for name, outcome in (("clean", "success"), ("fit[0]", "success"), ("fit[1]", "failed")):
        lab.worker.claim(tasks[name])
        if outcome == "success":
            lab.worker.artifact(tasks[name], "summary.csv", b"x\n")
            lab.worker.finish(tasks[name], outcome)
        else:
            lab.worker.finish(tasks[name], outcome, failure="user", exit_code=1, message="it broke")


def test_a_tree_that_labfleet_itself_failed_ends_with_7(lab: Lab) -> None:
    lab.submit()
    for _ in range(3):
        lab.fail("clean", "system")
    ended = lab.run("watch", lab.job, "--json")
    assert ended.code == 7
    assert json.loads(ended.out)["counts"]["skipped"] == 3


def test_results_go_into_a_folder_for_each_task(lab: Lab, tmp_path: Path) -> None:
    lab.submit()
    lab.do("clean")
    lab.do("fit[0]")
    ended = lab.run("fetch", lab.job, "-o", "results")
    assert ended.out.splitlines() == ["results/clean/summary.csv", "results/fit[0]/summary.csv"]
    assert (tmp_path / "results/fit[0]/summary.csv").read_text() == "fit[0]\n"


def test_log_timeline_and_provenance(lab: Lab) -> None:
    lab.submit()
    lab.do("clean")
    assert lab.run("log", lab.job, "--task", "clean").out == "log of clean\n"
    several = lab.run("log", lab.job)
    assert (several.code, "name one with --task" in several.err) == (2, True)
    lines = [line.split()[2:] for line in lab.run("timeline", lab.job).out.splitlines()]
    assert lines[0][0] == "submitted"
    assert ["claimed", "clean", "running", "worker", "w1"] in lines
    assert ["succeeded", "clean", "success"] in lines
    assert lab.json("timeline", lab.job)[0]["event"] == "submitted"
    clean = lab.tasks()["clean"]["id"]
    shown = lab.run("provenance", clean).out
    assert shown == lab.run("provenance", lab.job, "--task", "clean").out
    for text in ("table-summary 1.0.1", "attempt 1", "w1", "table.csv", "summary.csv"):
        assert text in shown
    assert lab.json("provenance", clean)["attempts"][0]["outcome"] == "success"


def test_verbs_of_jobs(lab: Lab) -> None:
    lab.submit()
    for verb, told in (("hold", "held"), ("resume", "resumed"), ("cancel", "its state is cancelled")):
        assert told in lab.run(verb, lab.job).out
    early = lab.run("hold", lab.job)
    assert (early.code, "can't be held: it is cancelled" in early.err) == (1, True)
    for verb, held in (("retry", False), ("cancel", False), ("force-retry", False), ("cancel", False)):
        assert lab.json(verb, lab.job)["held"] is held
    assert lab.json("reset", lab.job)["held"] is True
    assert lab.run("cancel", lab.job).code == 0
    both = lab.run("delete", lab.job, "00000000-0000-0000-0000-000000000000")
    assert both.code == 1
    assert f"Job {lab.job}: deleted." in both.out
    assert "There is no job 00000000" in both.err
    assert lab.run("show", lab.job).code == 1


def test_a_running_task_is_not_retried(lab: Lab) -> None:
    lab.submit()
    lab.worker.claim(lab.tasks()["clean"]["id"])
    for arguments in ((lab.job,), (lab.job, "--task", "clean")):
        ended = lab.run("retry", *arguments)
        assert (ended.code, "can't be retried: it is running" in ended.err) == (1, True)
        assert "Wait for its end, or cancel it first." in ended.err
    assert lab.tasks()["clean"]["attempt"] == 1


def test_verbs_of_single_tasks(lab: Lab) -> None:
    lab.submit()
    lab.do("clean")
    lab.fail("fit[1]")
    assert lab.run("retry", lab.job, "--task", "fit[1]").out == "Task fit[1]: retried; its state is queued.\n"
    assert lab.tasks()["fit[1]"]["attempt"] == 2
    by_id = lab.tasks()["fit[0]"]["id"]
    assert lab.json("cancel", "--task", by_id)["state"] == "cancelled"
    assert "no task 'fit'" in lab.run("cancel", lab.job, "--task", "fit").err
    assert "needs its JOB" in lab.run("cancel", "--task", "fit").err
    assert lab.run("hold", lab.job, "--task", "fit[0]").code == 2  # the API holds whole jobs only


def test_verbs_in_bulk(lab: Lab) -> None:
    lab.submit("--labels", "paper")
    lab.submit("--labels", "other")
    assert (
        lab.run("cancel", "--all", "--label", "paper", "--dry-run").out
        == "1 job matches; nothing was done.\n"
    )
    nobody = lab.run("cancel", "--all", "--label", "paper")
    assert (nobody.code, "Add --yes" in nobody.err) == (1, True)
    assert lab.run("cancel", "--all", "--label", "paper", "--yes").out == "1 job: cancelling asked for.\n"
    assert [job["labels"] for job in lab.json("jobs", "--in-progress")["items"]] == [["other"]]
    some = lab.run("hold", "--all", "--yes")
    assert (some.code, some.out) == (1, "1 job: held.\n")
    assert "it is cancelled" in some.err
    assert lab.run("delete", "--all", "--state", "failed").out == "0 jobs match; nothing was done.\n"


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
def test_bulk_asks_before_it_does(lab: Lab, answer: str, left: int) -> None:
    lab.submit()

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    ended = lab.run("cancel", "--all", "--in-progress", stdin=Terminal(answer))
    assert "1 job matches. Cancel them?" in ended.out
    assert len(lab.json("jobs", "--in-progress")["items"]) == left


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "--state", "failed"),
        ("retry", "JOB", "--all"),
        ("retry", "JOB", "--yes"),
        ("retry", "A", "B", "--task", "x"),
        ("retry", "--all", "--task", "x"),
        ("retry", "--all", "--since", "yesterday"),
        ("change", "JOB"),
        ("jobs", "--state", "lost"),
    ],
)
def test_wrong_use_ends_with_2(lab: Lab, arguments: tuple[str, ...]) -> None:
    assert lab.run(*arguments).code == 2


def test_jobs_are_found(lab: Lab) -> None:
    lab.submit("--labels", "paper", "--note", "for the referee")
    first = lab.job
    lab.submit("--label", "Other")
    lab.run("cancel", lab.job)

    def found(*filters: str) -> list[str]:
        return [job["id"] for job in lab.json("jobs", *filters)["items"]]

    assert found() == [lab.job, first]
    for filters in (
        ("--state", "queued", "--state", "running"),
        ("--in-progress",),
        ("--label", "paper"),
        ("--text", "stability referee"),
        ("--in-progress", "--protocol", "table-summary", "--dataset", lab.dataset, "--user", "ada"),
    ):
        assert found(*filters) == [first], filters
    assert found("--errored") == found("--until", "2020-01-01") == found("--user", "eve") == []
    assert len(found("--since", "2020-01-01T12:00")) == 2
    assert "0/4" in lab.run("jobs", "--label", "paper").out


def test_a_job_is_changed(lab: Lab) -> None:
    lab.submit("--labels", "a,b")
    changed = lab.json("change", lab.job, "--label", "new", "--labels", "", "--note", "n", "--priority", "-5")
    assert (changed["label"], changed["labels"], changed["note"], changed["priority"]) == ("new", [], "n", -5)
    assert lab.run("change", lab.job, "--note", "m").out == f"Job {lab.job}: changed note.\n"
    assert "highest priority" in lab.run("change", lab.job, "--priority", "100").err


def test_a_job_is_submitted_again_with_changes(lab: Lab) -> None:
    one = lab.json("submit", "table-summary", "-i", f"table={lab.dataset}", "-p", "top=3", "--label", "first")
    more = ("--set", "parameters.top=20", "--set", "parameters.delimiter=comma", "--label", "second")
    again = lab.json("resubmit", one["id"], *more)
    assert again["id"] != one["id"]
    assert again["label"] == "second"
    parameters = again["tasks"][0]["parameters"]
    assert (parameters["top"], parameters["delimiter"]) == (20, "comma")
    lab.submit()
    places = (
        "--set",
        "report.parameters.top=7",
        "--set",
        'tree.sequential.1.sweep.grid={"parameters.top": [9]}',
    )
    tree = lab.json("resubmit", lab.job, *places)
    assert [task["parameters"]["top"] for task in tree["tasks"]] == [5, 9, 7]
    for wrong, told in (
        ("x.y=1", "Extra inputs"),
        ("tree.sequential.7.z=1", "no '7' to change"),
        ("top", "no value"),
    ):
        ended = lab.run("resubmit", lab.job, "--set", wrong)
        assert ended.code == 1
        assert told in ended.err, ended.err


PAGE = (Path(__file__).parents[4] / "docs/scientist/jobs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_documentation_are_valid(lab: Lab) -> None:
    imported = lab.run("protocol", "import", str(PROTOCOLS / "differential-network"))
    assert imported.code == 0, imported.err
    assert EXAMPLES
    for number, example in enumerate(EXAMPLES):
        Path(f"example{number}.yaml").write_text(
            re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", lab.dataset, example)
        )
        ended = lab.run("validate", f"example{number}.yaml")
        assert (ended.code, ended.err) == (0, ""), example
