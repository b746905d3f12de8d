"""What a worker tells: the server must take it as it is."""

from __future__ import annotations

from pathlib import Path

from labfleet.config import FrontEndSection, ImagesSection, WorkerSection, WorkerSettings
from labfleet.web.api.schemas import FinishIn, PresenceIn
from labfleet.worker.environment import describe
from labfleet.worker.execution import Ending
from labfleet.worker.presence import Presence
from labfleet.worker.slots import Slots
from labfleet.worker.verdict import judge


def test_the_server_takes_the_report(tmp_path: Path) -> None:
    settings = WorkerSettings.model_construct(
        worker=WorkerSection(name="w1", tags=["large"], slots=3, work_directory=tmp_path),
        front_ends={"web": FrontEndSection(url="http://127.0.0.1:9")},
    )
    presence = Presence(settings, "lw_x", Slots(3, set), describe(), lambda _: None)

    told = presence.report()

    report = PresenceIn.model_validate(told)
    assert report.model_dump() == told
    assert (report.tags, report.free_slots, report.stopping) == (["large"], 3, False)
    assert report.environment["kernel"]


def test_a_worker_that_runs_images_says_so(tmp_path: Path) -> None:
    settings = WorkerSettings.model_construct(
        worker=WorkerSection(name="w1", tags=["large"], work_directory=tmp_path),
        images=ImagesSection(enabled=True),
        front_ends={},
    )
    told = Presence(settings, "lw_x", Slots(1, set), {}, lambda _: None).report()
    assert told["tags"] == ["large", "images"]


def test_the_server_takes_the_ending() -> None:
    usage = {"wall_seconds": 1.5, "cpu_seconds": 0.25, "memory_bytes": 2**30}

    told = FinishIn.model_validate(judge(Ending(0)) | {"usage": usage, "environment": describe()})

    assert told.usage == usage
    assert FinishIn.model_validate(judge(Ending(0)) | {"usage": {}, "environment": {}}).usage == {}
