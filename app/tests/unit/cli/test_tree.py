"""Trees of tasks on a terminal, from what the API answers."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from labfleet.cli.display import MAX_BARS, display_on
from labfleet.cli.tree import MAX_LINES, placed, reasons_of, tree_of

COUNTS = (
    "queued",
    "running",
    "success",
    "failed",
    "partial",
    "inapplicable",
    "cancelled",
    "skipped",
    "forgiven",
)


def node(number: int, parent: int | None, position: int, total: int, **more: Any) -> dict[str, Any]:
    kind = more.pop("kind", "sequential")
    usual = "stop" if kind == "sequential" else "continue"
    own = {"number": number, "parent": parent, "position": position, "total": total, "kind": kind}
    return {"name": "", "on_failure": usual, "optional": False, "ended": 0, "lost": 0, **own, **more}


def task(name: str, state: str = "queued", **more: Any) -> dict[str, Any]:
    usual = {"skipped": False, "optional": False, "held": False, "reused_from": None, "reason": None}
    run = {"worker": "w1", "progress": 0.0, "progress_text": "", "message": ""}
    return {"id": f"id of {name}", "name": name, "state": state, **usual, **run, **more}


def job(nodes: list[dict[str, Any]], tasks: list[dict[str, Any]], **counts: int) -> dict[str, Any]:
    counted = dict.fromkeys(COUNTS, 0) | counts
    total = {"total": sum(counted.values())}
    return {"id": "j", "nodes": nodes, "tasks": tasks, "counts": counted | total, "progress": 0.5}


def drawn(job: dict[str, Any], *others: dict[str, Any]) -> list[str]:
    out = Console(file=StringIO(), width=200)
    out.print(tree_of(job, others))
    return [line.rstrip() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_tasks_take_the_positions_that_no_node_has() -> None:
    nodes = [node(0, None, 0, 4), node(1, 0, 1, 2, kind="parallel"), node(2, 0, 3, 1)]
    found = placed(nodes, [task(name) for name in "abcde"])
    names = {
        number: [child.get("name") or child["number"] for child in inner] for number, inner in found.items()
    }
    assert names == {0: ["a", 1, "d", 2], 1: ["b", "c"], 2: ["e"]}


def test_tasks_that_are_not_known_are_left_out() -> None:
    nodes = [node(0, None, 0, 2), node(1, 0, 0, 3, kind="parallel")]
    assert [child["name"] for child in placed(nodes, [task("a")])[1]] == ["a"]
    assert placed([], [task("a")]) == {}


def test_words_for_rules_and_states() -> None:
    nodes = [
        node(0, None, 0, 4, on_failure="continue", ended=2, lost=1),
        node(1, 0, 3, 1, kind="parallel", name="both", on_failure="stop", optional=True),
    ]
    tasks = [
        task("a", "success", reused_from="x"),
        task("b", "cancelled", skipped=True),
        task("c", "running", progress=0.25, progress_text="half [red]way"),
        task("d", "queued", held=True, optional=True),
    ]
    assert drawn(job(nodes, tasks)) == [
        "one after the other, goes on after failures  2 of 4 ended, 1 lost",
        "├── a  success (a known result)",
        "├── b  skipped",
        "├── c  running on w1 25% half [red]way",
        "└── both (side by side), a failure stops the others, optional  0 of 1 ended",
        "    └── d  queued (held), optional",
    ]


def test_a_large_sweep_shows_what_is_interesting_and_a_number() -> None:
    nodes = [node(0, None, 0, 500, kind="parallel", name="fit")]
    tasks = [task(f"fit[{index}]", "failed" if index == 7 else "success") for index in range(100)]
    shown = drawn(job(nodes, tasks), task("fit[499]", "running"), tasks[7])
    assert shown == [
        "fit (side by side)  0 of 500 ended",
        "├── fit[7]  failed",
        "├── fit[499]  running on w1 0%",
        "└── … 498 not shown: labfleet tasks JOB",
    ]


def test_a_tree_of_many_nodes_is_cut() -> None:
    nodes = [node(0, None, 0, 1000)] + [node(number, 0, number - 1, 1) for number in range(1, 1001)]
    shown = drawn(job(nodes, [task(f"t{number}") for number in range(100)]))
    assert MAX_LINES <= len(shown) <= MAX_LINES + 3
    assert shown[-1] == "└── … 900 not shown: labfleet tasks JOB"


def test_reasons_stand_together() -> None:
    def waits(message: str) -> dict[str, str]:
        return {"code": "x", "message": message}

    tasks = [task(f"t{number}", reason=waits("Full.")) for number in range(6)]
    assert reasons_of([*tasks, task("z", reason=waits("Held.")), task("y", "running")]) == [
        ("t0, t1, t2, t3 and 2 others", "Full."),
        ("z", "Held."),
    ]


def test_bars_of_a_tree_take_few_lines() -> None:
    out = Console(file=StringIO(), force_terminal=True, width=100)
    running = [task(f"t{number}", "running", progress_text="half [red]way") for number in range(MAX_BARS)]
    with display_on(out) as display:
        assert display.bars == MAX_BARS
        display.tree(job([], [], running=8, queued=3), running)
        display.tree(job([], [], running=1, success=10), running[:1])
        bars = display._progress.tasks  # type: ignore[attr-defined]
        assert [(bar.fields["name"], bar.description) for bar in bars] == [
            ("11 tasks", "10 success, 1 running"),
            ("t0", "half \\[red]way"),
        ]


def test_lines_where_nobody_looks_are_few() -> None:
    out = Console(file=StringIO())
    with display_on(out) as display:
        assert display.bars == 0
        for number in range(50):
            display.tree(job([], [], success=number, queued=50 - number), [])
    assert out.file.getvalue() == " 50% 50 queued\n"  # type: ignore[attr-defined]
