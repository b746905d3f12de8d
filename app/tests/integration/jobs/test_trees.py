"""Jobs that are trees: what runs when, what is skipped, and what comes of the whole."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from labfleet.config import JobsSection
from labfleet.db.models import Artifact, Job, Node, ProtocolVersion, Task, User
from labfleet.errors import AttemptSuperseded, InvalidJob, WrongState
from labfleet.jobs import attempts, finishing, inputs, search, service, spec, transition, verbs
from labfleet.jobs.finishing import Ending
from labfleet.jobs.states import Failure, Outcome

Sessions = sessionmaker[Session]
Node_ = dict[str, Any]
GOOD = Ending(Outcome.SUCCESS)
BAD = Ending(Outcome.FAILED, Failure.USER, 1, "it broke")
HALF = Ending(Outcome.PARTIAL, exit_code=1, message="it broke, but something is there")


def leaf(name: str, **more: Any) -> Node_:
    return {"task": name, "protocol": "echo", **more}


def sequence(*children: Node_, **more: Any) -> Node_:
    return {"sequential": list(children), **more}


def parallel(*children: Node_, **more: Any) -> Node_:
    return {"parallel": list(children), **more}


class Lab:
    """Submits trees and plays the worker."""

    def __init__(self, sessions: Sessions, user: User) -> None:
        self.sessions = sessions
        self.user = user

    def submit(self, tree: Node_, **more: Any) -> uuid.UUID:
        with self.sessions.begin() as session:
            limits = more.pop("limits", JobsSection())
            return service.submit(session, self.user, spec.read({"tree": tree, **more}), limits=limits).id

    def can_run(self, job: uuid.UUID) -> set[str]:
        return set(self._names(job, Task.ready, Task.state == "queued", ~Task.held))

    def _names(self, job: uuid.UUID, *which: Any) -> list[str]:
        with self.sessions() as session:
            names = select(Task.name).where(Task.job_id == job, *which).order_by(Task.sequence)
            return list(session.scalars(names))

    def states(self, job: uuid.UUID) -> dict[str, str]:
        with self.sessions() as session:
            rows = session.execute(select(Task.name, Task.state, Task.skipped).where(Task.job_id == job))
            return {name: "skipped" if skipped else state for name, state, skipped in rows}

    def task(self, job: uuid.UUID, name: str) -> Task:
        with self.sessions() as session:
            return session.scalars(select(Task).where(Task.job_id == job, Task.name == name)).one()

    def job(self, job: uuid.UUID) -> Job:
        with self.sessions() as session:
            row = session.get_one(Job, job)
            counted = {"total": row.tasks_total, **vars(transition.tally(row))}
            assert counted.pop("total") == sum(counted.values())
            states = session.scalars(select(Task.state).where(Task.job_id == job)).all()
            assert counted["queued"] == states.count("queued")
            assert counted["success"] == states.count("success")
            assert counted["running"] == states.count("running")
            return row

    def claim(self, job: uuid.UUID, name: str) -> Task:
        task = self.task(job, name)
        with self.sessions.begin() as session:
            attempts.claim(session, task.id, task.attempt, "w", f"c{task.attempt}", lease_seconds=60)
        return task

    def finish(self, job: uuid.UUID, name: str, ending: Ending = GOOD, *, output: str | None = None) -> None:
        task = self.task(job, name)
        if task.state == "queued":
            self.claim(job, name)
        with self.sessions.begin() as session:
            if output:
                new = attempts.NewArtifact(f"{output}.txt", "text", "text/plain", "e" * 64, 1, output)
                attempts.record_artifact(session, task.id, task.attempt, new)
            finishing.finish(session, task.id, task.attempt, ending)

    def do(self, verb: str, job: uuid.UUID) -> None:
        with self.sessions.begin() as session:
            verbs.JOB_VERBS[verb](session, self.user, job)

    def do_task(self, verb: str, job: uuid.UUID, name: str) -> None:
        with self.sessions.begin() as session:
            verbs.TASK_VERBS[verb](session, self.user, self.task(job, name).id)


@pytest.fixture
def lab(sessions: Sessions, user: User, protocol: ProtocolVersion) -> Lab:
    return Lab(sessions, user)


def test_a_sequence_runs_one_after_the_other(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b"), leaf("c")))
    assert lab.can_run(job) == {"a"}
    assert lab.job(job).state == "queued"
    lab.finish(job, "a")
    assert (lab.can_run(job), lab.job(job).state) == ({"b"}, "running")
    lab.finish(job, "b")
    lab.finish(job, "c")
    assert lab.job(job).state == "success"
    assert lab.job(job).finished_at is not None


def test_parallel_nodes_run_at_once_and_nest(lab: Lab) -> None:
    tree = sequence(parallel(leaf("a"), sequence(leaf("b1"), leaf("b2"))), leaf("last"))
    job = lab.submit(tree)
    assert lab.can_run(job) == {"a", "b1"}
    lab.finish(job, "b1")
    assert lab.can_run(job) == {"a", "b2"}
    lab.finish(job, "a")
    assert lab.can_run(job) == {"b2"}
    lab.finish(job, "b2")
    assert lab.can_run(job) == {"last"}
    lab.finish(job, "last")
    assert lab.job(job).state == "success"


def test_a_task_that_is_not_its_turn_can_not_be_claimed(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    with pytest.raises(AttemptSuperseded, match="not to run now"):
        lab.claim(job, "b")


def test_a_failure_stops_a_sequence_and_skips_the_rest(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b"), parallel(leaf("c"), leaf("d"))))
    lab.finish(job, "a")
    lab.finish(job, "b", BAD)
    assert lab.states(job) == {"a": "success", "b": "failed", "c": "skipped", "d": "skipped"}
    assert lab.job(job).state == "partial"
    assert "failed" in lab.task(job, "c").message


def test_nothing_but_a_failure_is_a_failed_job(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    lab.finish(job, "a", BAD)
    assert lab.job(job).state == "failed"


def test_a_sequence_may_carry_on(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b"), on_failure="continue"))
    lab.finish(job, "a", BAD)
    assert lab.can_run(job) == {"b"}
    lab.finish(job, "b")
    assert lab.job(job).state == "partial"


def test_an_optional_task_may_fail(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a", optional=True), leaf("b")))
    lab.finish(job, "a", BAD)
    assert lab.can_run(job) == {"b"}
    lab.finish(job, "b")
    row = lab.job(job)
    assert (row.state, row.tasks_forgiven) == ("success", 1)


def test_an_optional_node_may_fail(lab: Lab) -> None:
    job = lab.submit(sequence(sequence(leaf("a"), leaf("a2"), optional=True), leaf("b")))
    lab.finish(job, "a", BAD)
    assert lab.states(job)["a2"] == "skipped"
    assert lab.can_run(job) == {"b"}


def test_a_parallel_node_can_stop_at_the_first_failure(lab: Lab) -> None:
    job = lab.submit(sequence(parallel(leaf("a"), leaf("b"), leaf("c"), on_failure="stop"), leaf("d")))
    lab.claim(job, "b")
    lab.finish(job, "a", BAD)
    assert lab.states(job) == {"a": "failed", "b": "running", "c": "skipped", "d": "queued"}
    assert lab.task(job, "b").cancel_requested
    lab.finish(job, "b", Ending(Outcome.STOPPED))
    assert lab.states(job) == {"a": "failed", "b": "cancelled", "c": "skipped", "d": "skipped"}
    assert lab.job(job).state == "failed"


def test_outputs_become_inputs_by_name(lab: Lab) -> None:
    take = {"data": {"task": "a", "output": "out"}}
    job = lab.submit(sequence(leaf("a"), leaf("b", inputs=take)))
    lab.finish(job, "a", output="out")
    assert lab.can_run(job) == {"b"}
    with lab.sessions() as session:
        files = inputs.resolve(session, session.get_one(Task, lab.task(job, "b").id))
    assert (files["data"].name, files["data"].sha256) == ("out.txt", "e" * 64)


@pytest.mark.parametrize("ending", [GOOD, BAD])
def test_a_task_without_its_input_is_skipped(lab: Lab, ending: Ending) -> None:
    take = {"data": {"task": "a", "output": "out"}}
    tree = sequence(leaf("a"), leaf("b", inputs=take), leaf("c"), on_failure="continue")
    job = lab.submit(tree)
    lab.finish(job, "a", ending)  # without an artifact
    assert lab.states(job)["b"] == "skipped"
    assert "input" in lab.task(job, "b").message
    assert lab.can_run(job) == {"c"}


def test_a_partial_result_is_a_loss_that_others_may_use(lab: Lab) -> None:
    take = {"data": {"task": "a", "output": "out"}}
    job = lab.submit(sequence(leaf("a"), leaf("b", inputs=take)))
    lab.finish(job, "a", HALF, output="out")
    assert lab.states(job) == {"a": "partial", "b": "skipped"}
    assert lab.job(job).state == "partial"

    lab.do("retry", job)
    assert lab.can_run(job) == {"a"}

    job = lab.submit(sequence(leaf("a"), leaf("b", inputs=take), on_failure="continue"))
    lab.finish(job, "a", HALF, output="out")
    assert lab.can_run(job) == {"b"}
    lab.finish(job, "b")
    assert lab.job(job).state == "partial"


def test_a_sweep_is_many_tasks(lab: Lab) -> None:
    sweep = {"grid": {"parameters.times": [1, 2, 3], "parameters.text": ["x", "y"]}}
    job = lab.submit(sequence(leaf("fit", sweep=sweep), leaf("after")))
    names = [f"fit[{number}]" for number in range(6)]
    assert lab.can_run(job) == set(names)
    assert lab.task(job, "fit[0]").parameters == {"text": "x", "times": 1}
    assert lab.task(job, "fit[5]").parameters == {"text": "y", "times": 3}
    for name in names:
        lab.finish(job, name)
    assert lab.can_run(job) == {"after"}


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({"zip": {"parameters.times": [1, 2], "parameters.text": ["x", "y"]}}, [(1, "x"), (2, "y")]),
        ({"list": [{"parameters": {"times": 7}}, {"parameters": {"text": "z"}}]}, [(7, "base"), (5, "z")]),
    ],
)
def test_other_sweeps(lab: Lab, sweep: Any, expected: list[tuple[int, str]]) -> None:
    job = lab.submit(leaf("fit", parameters={"times": 5, "text": "base"}, sweep=sweep))
    found = [lab.task(job, f"fit[{number}]").parameters for number in range(2)]
    assert [(one["times"], one["text"]) for one in found] == expected


def test_a_large_sweep_is_submitted_in_one_piece(lab: Lab) -> None:
    # More than a statement may have parameters.
    grid = {"parameters.times": list(range(7000)), "parameters.text": list("abcdefghij")}
    job = lab.submit(leaf("fit", sweep={"grid": grid}))
    assert lab.job(job).tasks_total == 70_000
    lab.do("cancel", job)
    assert lab.job(job).state == "cancelled"


def test_what_a_small_lab_has_taught_the_database_does_not_slow_a_large_job(lab: Lab) -> None:
    # Checks of references keep the plan of a table that was one page: to read all of it for each row.
    with lab.sessions.begin() as session:
        lab.do("cancel", lab.submit(leaf("small")))
        session.execute(text("ANALYZE"))
    for _ in range(10):
        lab.do("cancel", lab.submit(leaf("small")))
    before = rows_read(lab)
    lab.do("cancel", lab.submit(leaf("fit", sweep={"grid": {"parameters.times": list(range(7000))}})))
    assert rows_read(lab) - before < 40 * 7000


def rows_read(lab: Lab) -> int:
    """How many rows of tasks were read because nothing led to them."""
    with lab.sessions.begin() as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
    with lab.sessions() as session:
        return (
            session.scalar(text("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'tasks'")) or 0
        )


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (sequence(leaf("a"), leaf("a")), "given at tree.sequential.0 already"),
        (sequence(), "at least 1 item"),
        (sequence(leaf("a", inputs={"data": {"task": "b", "output": "out"}}), leaf("b")), "not before it"),
        (leaf("a", inputs={"data": {"task": "a", "output": "out"}}), "is itself"),
        (sequence(leaf("a"), leaf("b", inputs={"data": {"task": "c", "output": "out"}})), "no task 'c'"),
        (sequence(leaf("a"), leaf("b", inputs={"data": {"task": "a", "output": "x"}})), "no output 'x'"),
        (parallel(leaf("a"), leaf("b", inputs={"data": {"task": "a", "output": "out"}})), "not before it"),
        (leaf("a", sweep={"grid": {"parameters.times": list(range(101))}}), "101 tasks or more; at most 100"),
        (leaf("a", sweep={"grid": {"parameters.times": [1, "two"]}}), "times"),
        (leaf("a", sweep={"grid": {"parameters.colour": ["red"]}}), "colour"),
        (leaf("a", sweep={"zip": {"parameters.times": [1], "parameters.text": ["x", "y"]}}), "one length"),
        (leaf("a", sweep={"grid": {"times": [1]}}), "neither parameters.NAME nor inputs.SLOT"),
        (leaf("a", sweep={"grid": {"inputs.data": ["what"]}}), "neither a dataset's id"),
        ({"both": 1}, "one of the fields sequential, parallel and task"),
        (leaf("a", protocol="nothing"), "no protocol 'nothing'"),
        (leaf("a", needs={"memory": "lots"}), "memory"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_leaves_nothing(lab: Lab, tree: Node_, told: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        lab.submit(tree, limits=JobsSection(max_tasks=100))
    assert told in caught.value.detail
    assert all(fault["path"].startswith("tree") for fault in caught.value.extra["errors"])
    with lab.sessions() as session:
        assert session.scalars(select(Job)).all() == []
        assert session.scalars(select(Node)).all() == []


def test_a_tree_deeper_than_the_limit_is_refused(lab: Lab) -> None:
    tree = leaf("a")
    for _ in range(6):
        tree = sequence(tree)
    with pytest.raises(InvalidJob, match="deeper than 5"):
        lab.submit(tree, limits=JobsSection(max_depth=5))


def test_a_retry_runs_what_failed_and_what_was_skipped(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b"), leaf("c")))
    lab.finish(job, "a")
    lab.finish(job, "b", BAD)
    lab.do("retry", job)
    assert lab.can_run(job) == {"b"}
    assert (lab.job(job).state, lab.task(job, "a").attempt, lab.task(job, "b").attempt) == ("running", 1, 2)
    lab.finish(job, "b")
    lab.finish(job, "c")
    assert lab.job(job).state == "success"


def test_a_forced_retry_runs_everything_again(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    lab.finish(job, "a")
    lab.finish(job, "b")
    with pytest.raises(WrongState, match="success"):
        lab.do("retry", job)
    lab.do("force-retry", job)
    assert (lab.can_run(job), lab.job(job).state) == ({"a"}, "queued")


def test_a_reset_job_waits_until_it_is_resumed(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    lab.finish(job, "a", BAD)
    lab.do("reset", job)
    assert (lab.can_run(job), lab.job(job).state, lab.job(job).held) == (set(), "queued", True)
    with pytest.raises(AttemptSuperseded, match="not to run now"):
        lab.claim(job, "a")
    lab.do("resume", job)
    lab.do("resume", job)
    assert lab.can_run(job) == {"a"}


def test_one_task_can_be_retried_while_others_run(lab: Lab) -> None:
    job = lab.submit(parallel(leaf("a"), sequence(leaf("b"), leaf("c"))))
    lab.claim(job, "a")
    with pytest.raises(WrongState, match="running"):
        lab.do_task("retry", job, "a")
    lab.finish(job, "b", BAD)
    with pytest.raises(WrongState, match="cancelled"):
        lab.do_task("retry", job, "c")
    lab.do_task("retry", job, "b")
    assert lab.can_run(job) == {"b"}
    lab.finish(job, "b")
    lab.finish(job, "a")
    lab.finish(job, "c")
    assert lab.job(job).state == "success"


def test_a_task_that_is_cancelled_is_lost_to_its_sequence(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    lab.do_task("cancel", job, "a")
    assert lab.states(job) == {"a": "cancelled", "b": "skipped"}
    assert lab.job(job).state == "cancelled"


def test_cancelling_a_tree_ends_it_when_what_runs_has_ended(lab: Lab) -> None:
    job = lab.submit(sequence(parallel(leaf("a"), leaf("b")), leaf("c")))
    lab.claim(job, "a")
    lab.do("cancel", job)
    lab.do("cancel", job)
    assert lab.states(job) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    lab.finish(job, "a", Ending(Outcome.STOPPED))
    assert lab.job(job).state == "cancelled"


def test_a_held_job_begins_nothing_new(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")), hold=True)
    assert lab.can_run(job) == set()
    lab.do("resume", job)
    lab.claim(job, "a")
    lab.do("hold", job)
    lab.finish(job, "a")
    assert lab.can_run(job) == set()
    lab.do("resume", job)
    assert lab.can_run(job) == {"b"}


def test_a_deleted_job_is_gone_with_all_that_is_its_own(lab: Lab) -> None:
    job = lab.submit(sequence(leaf("a"), leaf("b")))
    with pytest.raises(WrongState, match="queued"):
        lab.do("delete", job)
    lab.finish(job, "a", BAD, output="out")
    lab.do("delete", job)
    with lab.sessions() as session:
        assert [session.scalars(select(table)).all() for table in (Job, Node, Task, Artifact)] == [[]] * 4


def test_a_known_result_is_reused(lab: Lab, sessions: Sessions, protocol: ProtocolVersion) -> None:
    first = lab.submit(leaf("a", cache=True))
    lab.finish(first, "a", output="out")
    take = {"data": {"task": "a", "output": "out"}}
    tree = sequence(leaf("a", cache=True), leaf("b", cache=True, inputs=take))
    second = lab.submit(tree)
    assert lab.states(second) == {"a": "success", "b": "queued"}
    assert lab.task(second, "a").reused_from == lab.task(first, "a").id
    assert lab.can_run(second) == {"b"}
    lab.finish(second, "b", output="out")
    third = lab.submit(tree)
    assert lab.job(third).state == "success"
    with sessions() as session:
        found, _ = service.job_results(session, lab.user, third, 10, None)
        assert [(item.task, item.artifact.sha256) for item in found] == [("a", "e" * 64), ("b", "e" * 64)]
    other = lab.submit(leaf("a", cache=True, parameters={"text": "another"}))
    assert lab.can_run(other) == {"a"}


def test_jobs_are_found_by_what_is_known_of_them(lab: Lab, sessions: Sessions) -> None:
    first = lab.submit(leaf("a"), label="Stability of networks", labels=["paper"], note="for the referee")
    second = lab.submit(leaf("a"), label="Other")
    lab.finish(second, "a", BAD)

    def found(**wanted: Any) -> list[uuid.UUID]:
        with sessions() as session:
            return [job.id for job in search.list_jobs(session, lab.user, search.Filter(**wanted)).items]

    assert found(text="stability referee") == [first]
    assert found(labels=["paper"]) == [first]
    assert found(protocol="echo") == [second, first]
    assert found(protocol="other") == []
    assert found(states=search.ERRORED) == [second]
    assert found(states=search.IN_PROGRESS) == [first]
    assert found(user="ada", states=search.ERRORED) == [second]
    assert found(user="eve") == []
