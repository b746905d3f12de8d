"""A job of many tasks as a tree on the terminal: a line for what is interesting, a number for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text
from rich.tree import Tree

from labfleet.cli.output import STATE_STYLES, number_of, state_text

Json = Mapping[str, Any]

MANY = 12
"""A node with more tasks than this shows only those that run or went wrong."""
MAX_LINES = 200
NAMES_SHOWN = 4

_KINDS = {"sequential": "one after the other", "parallel": "side by side"}
_USUAL = {("sequential", "stop"), ("parallel", "continue")}
_RULES = {"stop": "a failure stops the others", "continue": "goes on after failures"}
WRONG = ("failed", "partial", "inapplicable")
"""States of a task that ended otherwise than it should have, worth telling one by one."""
_INTERESTING = frozenset({"running", *WRONG})


def counts_text(counts: Json) -> Text:
    """`12 success, 3 running`: the parts that are not zero, in their colours."""
    parts = [
        Text(f"{counts[name]} {name}", style=STATE_STYLES.get(name, ""))
        for name in (
            "success",
            "failed",
            "partial",
            "inapplicable",
            "cancelled",
            "skipped",
            "forgiven",
            "running",
            "queued",
        )
        if counts[name]
    ]
    return Text(", ").join(parts)


def tree_of(job: Json, others: Iterable[Json] = ()) -> Tree:
    """The job's nodes and tasks. `others` are tasks of interest beyond the first ones that the job has."""
    drawing = _Drawing(job, others)
    root = job["nodes"][0]
    tree = Tree(_node_text(root), guide_style="dim")
    drawing.fill(tree, root)
    return tree


class _Drawing:
    def __init__(self, job: Json, others: Iterable[Json]) -> None:
        self._lines = 0
        self._children = placed(job["nodes"], job["tasks"])
        known = {task["id"] for task in job["tasks"]}
        sweeps = {node["name"]: node["number"] for node in job["nodes"] if node["name"]}
        for task in others:
            sweep = sweeps.get(task["name"].partition("[")[0])
            if task["id"] not in known and sweep is not None:
                self._children[sweep].append(task)

    def fill(self, branch: Tree, node: Json) -> None:
        """Hang the node's children below its line, as far as there is room."""
        children = self._children[node["number"]]
        for child in children:
            if self._lines >= MAX_LINES:
                break
            if not _worth(child, len(children)):
                continue
            self._lines += 1
            if "kind" in child:
                self.fill(branch.add(_node_text(child)), child)
            else:
                branch.add(_task_text(child))
        if hidden := node["total"] - len(branch.children):
            branch.add(Text(f"… {hidden} not shown: labfleet tasks JOB", style="dim"))


def placed(nodes: Sequence[Json], tasks: Iterable[Json]) -> dict[int, list[Json]]:
    """The children of each node by its number: nodes, and the tasks as far as they are known.

    Tasks come in the order of the specification; the positions that no node has are theirs.
    """
    inner = {(node["parent"], node["position"]): node for node in nodes}
    rest = iter(tasks)
    children: dict[int, list[Json]] = {node["number"]: [] for node in nodes}

    def walk(node: Json) -> None:
        for position in range(node["total"]):
            child = inner.get((node["number"], position)) or next(rest, None)
            if child is None:
                continue
            children[node["number"]].append(child)
            if "kind" in child:
                walk(child)

    if nodes:
        walk(nodes[0])
    return children


def _worth(child: Json, among: int) -> bool:
    return "kind" in child or among <= MANY or child["state"] in _INTERESTING


def _node_text(node: Json) -> Text:
    text = Text(node["name"] or "", style="bold")
    text.append(f" ({_KINDS[node['kind']]})" if node["name"] else _KINDS[node["kind"]], style="dim")
    if (node["kind"], node["on_failure"]) not in _USUAL:
        text.append(f", {_RULES[node['on_failure']]}", style="dim")
    if node["optional"]:
        text.append(", optional", style="dim")
    lost = f", {node['lost']} lost" if node["lost"] else ""
    text.append(f"  {node['ended']} of {node['total']} ended{lost}")
    return text


def _task_text(task: Json) -> Text:
    text = Text.assemble(task["name"], "  ", task_state(task))
    if task["state"] == "running":
        text.append(f" on {task['worker']} {task['progress']:.0%} {task['progress_text']}".rstrip())
    if task["optional"]:
        text.append(", optional", style="dim")
    if task["state"] in WRONG and task["message"]:
        text.append(f": {task['message']}")
    return text


def task_state(task: Json) -> Text:
    """A task's state in one word, or two where the word alone would mislead."""
    if task["skipped"]:
        return state_text("skipped")
    text = state_text(task["state"])
    if task["reused_from"]:
        text.append(" (a known result)", style="dim")
    if task["held"] and task["state"] == "queued":
        text.append(" (held)", style="dim")
    return text


def reasons_of(tasks: Iterable[Json]) -> list[tuple[str, str]]:
    """Why tasks wait: which ones, and the sentence; tasks of one reason stand together."""
    waiting = [task for task in tasks if task["reason"]]
    sentences = Counter(task["reason"]["message"] for task in waiting)
    return [
        (_names([task["name"] for task in waiting if task["reason"]["message"] == message]), message)
        for message in sentences
    ]


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {number_of(more, 'other')}" if more > 0 else "")
