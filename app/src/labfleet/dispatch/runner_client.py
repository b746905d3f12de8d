"""The CGI runner of the queue tier, as the dispatcher speaks to it: HTTPS, kept alive, in batches."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import httpx

from labfleet.config import DispatcherSection
from labfleet.errors import ConfigError, Unavailable
from labfleet.log import get_logger, request_id

_log = get_logger(__name__)
Message = dict[str, Any]
Target = tuple[uuid.UUID, int]


class Status(StrEnum):
    """What became of one message."""

    CONFIRMED = "confirmed"
    UNROUTABLE = "unroutable"
    FAILED = "failed"


class RunnerUnavailable(Unavailable):
    """The CGI runner did not take the batch; nothing is known of its messages, so all are sent again."""

    code = "runner_unavailable"
    title = "The queue tier does not take messages"
    default_hint = (
        "Look into the journals of nginx, labfleet-runner and labfleet-publisher on the queue tier."
    )


class RunnerRejected(RunnerUnavailable):
    """The CGI runner refused the request itself (4xx)."""

    code = "runner_rejected"
    title = "The queue tier refuses the request"


class Runner(Protocol):
    """What the dispatcher needs of the queue tier."""

    def send(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        """Hand messages over (`schedule` or `cancel`); a target that is not in the answer has failed."""


class HttpRunner:
    """A `Runner` over HTTPS with the front end's password. Not for use by several threads.

    Of several queue machines it keeps to the one that answered last, and asks the next when that one does
    not take a batch. The first may have taken it all the same: a message that is there twice is claimed once.
    """

    def __init__(self, section: DispatcherSection, password: str) -> None:
        self._apis = section.runner_apis
        self._client = httpx.Client(
            auth=(section.front_end, password),
            verify=_trust(section),
            timeout=section.timeout_seconds,
            trust_env=False,
        )

    def send(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        """As `Runner.send`; a refused batch is halved, so that one bad message can't hold up the others."""
        try:
            return _statuses(self._post(verb, messages))
        except RunnerRejected:
            if len(messages) == 1:
                raise
        middle = len(messages) // 2
        return {**self._half(verb, messages[:middle]), **self._half(verb, messages[middle:])}

    def _half(self, verb: str, messages: Sequence[Message]) -> Mapping[Target, Status]:
        try:
            return self.send(verb, messages)
        except RunnerRejected:
            return {}

    def _post(self, verb: str, messages: Sequence[Message]) -> Any:
        """The answer of the first that takes the batch; the error of the last when none does."""
        for _ in self._apis[1:]:
            try:
                return self._ask(f"{self._apis[0]}/{verb}", messages)
            except RunnerRejected:
                raise
            except RunnerUnavailable as error:
                self._apis = [*self._apis[1:], self._apis[0]]
                _log.warning("another queue machine is asked", why=str(error), next=self._apis[0])
        return self._ask(f"{self._apis[0]}/{verb}", messages)

    def _ask(self, url: str, messages: Sequence[Message]) -> Any:
        try:
            # nginx, the CGI runner and the publisher log this id, and we the tasks that travel under it.
            headers = {"X-Request-ID": request_id()}
            response = self._client.post(url, json={"messages": list(messages)}, headers=headers)
        except httpx.HTTPError as error:
            raise RunnerUnavailable(f"{url}: {type(error).__name__}: {error}") from error
        if response.status_code in {400, 413, 422}:
            raise RunnerRejected(f"{url}: {response.status_code}: {response.text[:500]}")
        if response.status_code != 200:
            raise RunnerUnavailable(f"{url}: {response.status_code}: {response.text[:500]}")
        return _json(response)

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()


def _trust(section: DispatcherSection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=section.ca_file)
    except OSError as error:
        raise ConfigError(
            f"[dispatcher] ca_file {section.ca_file} can't be used: {error.strerror or error}.",
            hint="Name the lab's CA certificate (PEM), readable for this user.",
        ) from None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise RunnerUnavailable(f"{response.url}: the answer is no JSON: {response.text[:200]!r}") from error


def _statuses(answer: Any) -> Mapping[Target, Status]:
    try:
        return {
            (uuid.UUID(result["task"]), int(result["attempt"])): Status(result["status"])
            for result in answer["results"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise RunnerUnavailable(f"The runner's answer has another form than agreed: {error!r}") from error
