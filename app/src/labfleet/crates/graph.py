"""The description of a job as RO-Crate 1.1 has it, after the profile Workflow Run Crate 0.5 (JSON-LD).

The workflow is the job's specification. The job is one action, and so is each of its tasks, whose instrument
is a protocol's version. What went in and came out are files with their SHA-256, and parameters.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import stat
import uuid
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from labfleet.crates import terms
from labfleet.crates.gather import Facts, Source
from labfleet.db.models import Dataset, Task
from labfleet.jobs.service import Result

Entity = dict[str, Any]
_STATUS = {"success": "CompletedActionStatus"}


def input_path(dataset: Dataset) -> str:
    """Where a dataset lies in the crate: the same content once."""
    return f"inputs/{dataset.sha256[:16]}/{PurePosixPath(dataset.name).name or 'data'}"


def result_path(result: Result) -> str:
    """Where a result lies."""
    return f"results/{result.task}/{result.artifact.name}"


def readme(facts: Facts) -> str:
    """A page for people who open the crate."""
    job = facts.job
    return f"""# {job.label or "A job of Labfleet"}

{facts.note or "A computation"} by {facts.owner.name}, which ended as *{job.state}*.

- `{terms.REQUEST}`: what was to be computed
- `protocols/`: the programs, `inputs/` and `results/`: the data
- `{terms.METADATA}`: which program made what of what, when, where, with which libraries (RO-Crate 1.1)

`labfleet import` on this file makes the job anew.
"""


def describe(facts: Facts, request: bytes) -> Entity:
    """The whole of `ro-crate-metadata.json`; `request` is the file of the specification."""
    return _Graph(facts, request).document()


class _Graph:
    def __init__(self, facts: Facts, request: bytes) -> None:
        self._facts = facts
        self._request = request
        self._entities: dict[str, Entity] = {}
        self._results: dict[tuple[str, str], Entity] = {}
        self._slots: dict[str, Entity] = {}
        self._by_task: dict[str, list[Entity]] = {}

    def document(self) -> Entity:
        facts = self._facts
        root = self._root()
        parts = [{"@id": terms.README}, _ref(self._workflow())]
        for protocol in map(self._protocol, facts.sources.values()):
            parts += [_ref(protocol), *protocol["hasPart"]]
        parts += [_ref(self._input(dataset)) for dataset in facts.datasets.values()]
        parts += [_ref(self._result(result)) for result in facts.results]
        actions = [self._task(task) for task in facts.tasks]
        job = self._job(actions)
        root["hasPart"] = _unique(parts)
        root["mentions"] = [_ref(action) for action in (job, *actions)]
        return {"@context": terms.CONTEXT, "@graph": [_plain(each) for each in self._entities.values()]}

    def _add(self, entity: Entity) -> Entity:
        return self._entities.setdefault(entity["@id"], entity)

    def _root(self) -> Entity:
        job = self._facts.job
        self._add(
            {
                "@id": terms.METADATA,
                "@type": "CreativeWork",
                "conformsTo": [{"@id": terms.CRATE}, {"@id": list(terms.PROFILES)[-1]}],
                "about": {"@id": "./"},
            }
        )
        for profile, (name, number) in terms.PROFILES.items():
            self._add({"@id": profile, "@type": "CreativeWork", "name": name, "version": number})
        self._add(
            {
                "@id": "#license",
                "@type": "CreativeWork",
                "name": "No licence was given",
                "description": "Ask the agent of the job what may be done with its data and results.",
            }
        )
        self._add({"@id": "#lab", "@type": "Organization", "name": "A laboratory with Labfleet"})
        self._add(
            {
                "@id": terms.README,
                "@type": "File",
                "name": "What this is",
                "encodingFormat": "text/markdown",
                "about": {"@id": "./"},
            }
        )
        ended = _time(job.finished_at or job.created_at)
        return self._add(
            {
                "@id": "./",
                "@type": "Dataset",
                "name": job.label or f"Job {job.id}",
                "description": self._facts.note or f"A job of {', '.join(job.protocols)}, run by Labfleet.",
                "identifier": str(job.id),
                "datePublished": ended,
                "license": {"@id": "#license"},
                "author": _ref(self._person()),
                "publisher": {"@id": "#lab"},
                "keywords": ", ".join(job.labels),
                "conformsTo": [{"@id": profile} for profile in terms.PROFILES],
                "mainEntity": {"@id": terms.REQUEST},
            }
        )

    def _workflow(self) -> Entity:
        self._add(
            {
                "@id": "#labfleet",
                "@type": "ComputerLanguage",
                "name": "Labfleet job specification",
                "version": version("labfleet"),
                "identifier": {"@id": "https://www.rfc-editor.org/rfc/rfc8259"},
                "url": {"@id": "https://www.rfc-editor.org/rfc/rfc8259"},
            }
        )
        return self._add(
            {
                "@id": terms.REQUEST,
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
                "name": "The job's specification",
                "version": str(self._facts.job.id),
                "programmingLanguage": {"@id": "#labfleet"},
                "conformsTo": {"@id": terms.WORKFLOW},
                "encodingFormat": "application/json",
                "contentSize": str(len(self._request)),
                "sha256": hashlib.sha256(self._request).hexdigest(),
                "input": [],
                "output": [],
            }
        )

    def _protocol(self, source: Source) -> Entity:
        row = source.version
        entity = self._add(
            {
                "@id": source.folder,
                "@type": ["Dataset", "SoftwareSourceCode"],
                "name": row.protocol.name,
                "alternateName": str(row.manifest.get("title", "")),
                "description": str(row.manifest.get("description", "")),
                "version": row.version,
                "identifier": [f"{terms.COMMIT}{row.commit}", f"{terms.TREE}{source.tree}"],
                "hasPart": [],
            }
        )
        for tar, member in source.members():
            content = tar.extractfile(member) if member.isreg() else None
            data = content.read() if content else member.linkname.encode()
            entity["hasPart"].append(_ref(self._member(f"{source.folder}{member.name}", data)))
        if source.files is None:
            entity["description"] += " (Its files are not for whoever has made this crate.)"
        return entity

    def _file(self, path: str, name: str, media_type: str, size: int, sha256: str) -> Entity:
        return self._add(
            {
                "@id": quote(path, safe="/:"),
                "@type": "File",
                "name": name,
                "encodingFormat": media_type,
                "contentSize": str(size),
                "sha256": sha256,
            }
        )

    def _member(self, path: str, data: bytes) -> Entity:
        """A file of a protocol."""
        media_type = mimetypes.guess_type(path)[0] or "text/plain"
        return self._file(
            path, PurePosixPath(path).name, media_type, len(data), hashlib.sha256(data).hexdigest()
        )

    def _input(self, dataset: Dataset) -> Entity:
        path = input_path(dataset) if dataset.id in self._facts.given else f"{terms.DATASET}{dataset.id}"
        entity = self._file(path, dataset.name, dataset.media_type, dataset.size, dataset.sha256)
        if dataset.id not in self._facts.given:
            entity["description"] = "Its content is not for whoever has made this crate."
        names = entity.setdefault("identifier", [])
        if (name := f"{terms.DATASET}{dataset.id}") not in names:
            names.append(name)
        return entity

    def _result(self, result: Result) -> Entity:
        artifact = result.artifact
        path = result_path(result)
        entity = self._file(path, artifact.name, artifact.media_type, artifact.size, artifact.sha256)
        if artifact.output:
            self._results[result.task, artifact.output] = entity
        self._by_task.setdefault(result.task, []).append(entity)
        return entity

    def _person(self) -> Entity:
        name = self._facts.owner.name
        return self._add(
            {"@id": f"#user-{quote(name)}", "@type": "Person", "name": name, "affiliation": {"@id": "#lab"}}
        )

    def _job(self, tasks: list[Entity]) -> Entity:
        job = self._facts.job
        begun = [task["startTime"] for task in tasks if "startTime" in task]
        action = self._action(f"#job-{job.id}", f"Run of {job.label or 'the job'}", job.state, "")
        action |= {
            "description": f"{job.tasks_total} tasks, the job ended as {job.state}.",
            "instrument": {"@id": terms.REQUEST},
            "object": _unique([item for task in tasks for item in task["object"]]),
            "result": [_ref(entity) for made in self._by_task.values() for entity in made],
            "startTime": min(begun, default=_time(job.created_at)),
            "endTime": _time(job.finished_at or job.created_at),
        }
        return action

    def _task(self, task: Task) -> Entity:
        source = self._facts.sources[task.protocol_version_id]
        attempt = self._facts.attempts.get(task.id)
        action = self._action(f"#task-{task.id}", task.name, task.state, task.message)
        action |= {
            "description": f"{source.version.protocol.name} {source.version.version}, ended as {task.state}."
            + (f" On {task.worker}, attempt {task.attempt}." if task.worker else ""),
            "instrument": {"@id": source.folder},
            "object": self._taken(task, source),
            "result": [_ref(entity) for entity in self._by_task.get(task.name, [])],
            "endTime": _time(task.finished_at or task.created_at),
        }
        for name in source.version.manifest.get("outputs", {}):
            if entity := self._results.get((task.name, name)):
                self._example(entity, "output", source, name, "File")
        if task.started_at:
            action["startTime"] = _time(task.started_at)
        if attempt is not None and attempt.environment:
            action["environment"] = [
                _ref(self._fact(name, text)) for name, text in sorted(attempt.environment.items())
            ]
        return action

    def _action(self, name: str, title: str, state: str, message: str) -> Entity:
        done = state in _STATUS
        status = _STATUS.get(state, "FailedActionStatus")
        action = {
            "@id": name,
            "@type": "CreateAction",
            "name": title,
            "agent": _ref(self._person()),
            "actionStatus": f"http://schema.org/{status}",
        }
        return self._add(action if done or not message else {**action, "error": message})

    def _taken(self, task: Task, source: Source) -> list[Entity]:
        taken = []
        for slot, given in sorted(task.inputs.items()):
            entity = self._given(given)
            if entity is not None:
                self._example(entity, "input", source, slot, "File")
                taken.append(_ref(entity))
        for name, value in sorted(task.parameters.items()):
            entity = self._add(
                {
                    "@id": f"#parameter-{task.id}-{quote(name)}",
                    "@type": "PropertyValue",
                    "name": name,
                    "value": value if isinstance(value, str | int | float) else json.dumps(value),
                }
            )
            self._example(entity, "input", source, name, "PropertyValue")
            taken.append(_ref(entity))
        return taken

    def _given(self, given: str | Mapping[str, Any]) -> Entity | None:
        if isinstance(given, str):
            dataset = self._facts.datasets.get(uuid.UUID(given))
            return self._input(dataset) if dataset else None
        return self._results.get((given["task"], given["output"]))

    def _example(self, entity: Entity, side: str, source: Source, name: str, kind: str) -> None:
        """Say which parameter of the workflow the file or value stands for."""
        formal = f"#{side}-{source.version.protocol.name}-{quote(name)}"
        if formal not in self._entities:
            self._add(
                {
                    "@id": formal,
                    "@type": "FormalParameter",
                    "name": name,
                    "additionalType": kind,
                    "conformsTo": {"@id": terms.FORMAL_PARAMETER},
                }
            )
            self._entities[terms.REQUEST][side].append({"@id": formal})
        examples = entity.setdefault("exampleOfWork", [])
        if {"@id": formal} not in examples:
            examples.append({"@id": formal})

    def _fact(self, name: str, text: str) -> Entity:
        key = hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:16]
        return self._add(
            {"@id": f"#environment-{key}", "@type": "PropertyValue", "name": name, "value": text}
        )


def mode_of(executable: bool, link: bool) -> int:
    """The mode of a protocol's file, as `stat` has it."""
    return (stat.S_IFLNK | 0o777) if link else stat.S_IFREG | (0o755 if executable else 0o644)


def _plain(entity: Entity) -> Entity:
    """As RO-Crate writes it: one value is no list, and what is empty is left out."""
    single = {name: value[0] if _alone(value) else value for name, value in entity.items()}
    return {name: value for name, value in single.items() if value not in ("", [])}


def _alone(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _ref(entity: Entity) -> Entity:
    return {"@id": entity["@id"]}


def _unique(references: list[Entity]) -> list[Entity]:
    return [{"@id": name} for name in dict.fromkeys(each["@id"] for each in references)]


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
