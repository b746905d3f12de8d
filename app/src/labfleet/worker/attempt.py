"""The shepherd of one attempt: `python -m labfleet.worker.attempt DIRECTORY`, in a unit of its own.

Fetches, runs the sandbox, reports while it runs, uploads what it left, says how it ended. The worker's
service may end, restart or be updated meanwhile; the shepherd neither knows nor needs it.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labfleet import crash
from labfleet.worker import journal, sandbox, verdict
from labfleet.worker.capture import Capture
from labfleet.worker.client import Away, Client, Refused
from labfleet.worker.execution import Ending, Execution
from labfleet.worker.fetch import BadArchive, fetch_input, fetch_protocol, in_store
from labfleet.worker.heartbeat import Heartbeat
from labfleet.worker.meter import Meter, group_of
from labfleet.worker.outputs import Artifact, BadOutput, collect, salvage, upload
from labfleet.worker.patience import Patience
from labfleet.worker.preparing import Preparation, Prepared, Stopped, Unprepared
from labfleet.worker.spec import FINISHED, STOP_SIGNAL, Spec, load, take_token
from labfleet.worker.watch import Exceeded, Watch, require_room

log = logging.getLogger(__name__)
Verdict = dict[str, Any]


class Shepherd:
    """Looks after one attempt from its fetching to its finish."""

    def __init__(self, spec: Spec, token: str, directory: Path) -> None:
        self.stop = threading.Event()
        self._spec = spec
        self._directory = directory
        self._places = sandbox.Places(directory)
        self._patience = Patience(spec.host.patience_seconds)
        self._usage: dict[str, float] = {}
        self._told = dict(spec.host.environment)
        self._client = Client(spec.host.url, token, spec.host.ca_file)
        self._heartbeat = Heartbeat(
            Client(spec.host.url, token, spec.host.ca_file),
            self._patience,
            base=spec.base,
            period_seconds=spec.heartbeat_seconds,
            progress_file=self._places.progress,
            log=self._places.log,
            stop=self.stop,
        )

    def run(self) -> None:
        """All of it. Returns when the server has taken the ending, or the attempt counts no more."""
        crash.point("attempt_before_heartbeat")
        self._heartbeat.start()
        try:
            self._finish(self._verdict())
        except Refused as error:
            log.warning("the server refuses this attempt: %s", error)
        finally:
            self._heartbeat.finish()
        (self._directory / FINISHED).touch()

    def _verdict(self) -> Verdict:
        try:
            self._prepare()
            if self.stop.is_set():
                raise Stopped
            return self._judge(self._execute())
        except Unprepared as error:
            self._flush_log()
            return error.verdict()
        except BadArchive as error:
            return verdict.user_failure(str(error))
        except (BadOutput, Exceeded) as error:
            return verdict.user_failure(str(error), 0)
        except Away as error:
            if self._patience.exhausted:  # there is nobody to be told
                raise
            return verdict.system_failure(f"The webserver could not do its part for too long: {error}")
        except OSError as error:
            return verdict.system_failure(f"The worker failed: {error}.")

    def _judge(self, ending: Ending) -> Verdict:
        self._usage = ending.usage
        result = verdict.judge(ending)
        self._flush_log()
        if result["outcome"] == "success":
            return self._deliver(result)
        if result["failure"] == "user" and not ending.killed:
            return self._salvage(result)
        return result

    def _prepare(self) -> None:
        spec, places = self._spec, self._places
        places.create()
        places.parameters.write_text(json.dumps(spec.parameters), encoding="utf-8")
        fetch_protocol(self._client, self._patience, spec, places.protocol)
        for item in spec.inputs:
            if found := in_store(item, spec.host.store_mount):
                places.link(item.slot, found)
                continue
            fetch_input(self._client, self._patience, spec.base, item, places.inputs)

    def _execute(self) -> Ending:
        spec, places = self._spec, self._places
        with Capture(places.log, spec.limits.log_bytes) as capture:
            prepared = Preparation(spec, places, capture, self.stop).run()
            self._told |= prepared.told
            try:
                if prepared.spoke:
                    self._tell_progress(0, "")
                return self._run_sandbox(capture, prepared)
            finally:
                prepared.release()

    def _run_sandbox(self, capture: Capture, prepared: Prepared) -> Ending:
        spec, places = self._spec, self._places
        watch = Watch(spec.limits, places.outputs, Meter(group_of()))
        execution = Execution(spec.host, watch, capture, self.stop, spec.host.grace_seconds)
        # While the sandbox runs there is time for the TLS handshake of what is said afterwards.
        opening = threading.Thread(target=self._client.open, name="opening", daemon=True)
        opening.start()
        try:
            return execution.run(
                lambda status_fd: sandbox.argv(spec, places, status_fd, prepared.libraries, prepared.image)
            )
        finally:
            opening.join()

    def _tell_progress(self, progress: float, text: str) -> None:
        content = {"progress": progress, "progress_text": text}
        self._patience.call(lambda: self._client.call("POST", f"{self._spec.base}/heartbeat", content))

    def _flush_log(self) -> None:
        if not self._heartbeat.lost and self._places.log.exists():
            self._patience.call(lambda: self._heartbeat.send_log(self._client))

    def _deliver(self, result: Verdict) -> Verdict:
        """Check and upload the outputs; the lease is still being extended."""
        require_room(self._places.outputs, self._spec.limits)
        try:
            outputs = collect(self._spec.outputs, self._places.outputs)
        except BadOutput as error:
            return self._salvage(verdict.user_failure(str(error), 0))
        if self._upload(outputs):
            return result
        return verdict.judge(Ending(0, stopped=True))

    def _salvage(self, result: Verdict) -> Verdict:
        """Upload what a program has left that failed, or ended by itself when it was told to."""
        try:
            require_room(self._places.outputs, self._spec.limits)
        except Exceeded:
            return result
        saved = salvage(self._spec.outputs, self._places.outputs, self._spec.limits.output_bytes)
        if not saved or not self._upload(saved):
            return result
        return verdict.partial(result, ", ".join(f"'{artifact.output.name}'" for artifact in saved))

    def _upload(self, artifacts: Iterable[Artifact]) -> bool:
        """Whether all of them are there: not if the attempt was stopped meanwhile."""
        for artifact in artifacts:
            if self.stop.is_set():
                return False
            crash.point("attempt_before_upload")
            upload(self._client, self._patience, self._spec.base, artifact)
            crash.point("attempt_after_upload")
        return True

    def _finish(self, result: Verdict) -> None:
        if self._heartbeat.lost:
            log.warning("the attempt counts no more: %s", self._heartbeat.lost)
            return
        result |= {"usage": self._usage, "environment": self._told}
        log.info("finishing: %s", result)
        crash.point("attempt_before_finish")
        self._patience.call(lambda: self._client.call("POST", f"{self._spec.base}/finish", result))
        crash.point("attempt_after_finish")


def shepherd(spec: Spec, directory: Path) -> int:
    """Shepherd the attempt in `directory`; SIGTERM, or `STOP_SIGNAL`, hands it back."""
    journal.bind(task=spec.task, attempt=spec.number)
    work = Shepherd(spec, take_token(directory), directory)
    for number in (signal.SIGTERM, STOP_SIGNAL):
        signal.signal(number, lambda *_: work.stop.set())
    try:
        work.run()
    except Away as error:
        log.warning("the front end stayed away; the attempt's lease will lapse: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    journal.configure()
    sys.exit(shepherd(load(Path(sys.argv[1])), Path(sys.argv[1])))
