"""Call URLs that users chose, and only where the admin lets them lead.

A name is resolved once; every address that it has must lie in an allowed network, and the connection is made
to the very address that was checked. What the receiver answers is not read beyond its status.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path

import httpx

from labfleet.config import WebhooksSection
from labfleet.dispatch import webhooks_metrics as metrics
from labfleet.errors import ConfigError
from labfleet.jobs.webhooks import fault_of
from labfleet.networks import Address, Network, is_allowed


@dataclass(frozen=True)
class Call:
    """One POST."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What came of a call: the status, if there was an answer, and what was wrong, if anything was."""

    status: int | None = None
    error: str | None = None


class AddressRefused(ValueError):
    """The URL is none that may be called: of another form, of no address, or of one in no allowed network."""


class Caller:
    """Makes calls, several at once. Each ends within the section's time limit, resolution included.

    Not for use by several threads.
    """

    def __init__(self, section: WebhooksSection) -> None:
        self._section = section
        self._trust = _trust(section.ca_file)
        self._headers = {"User-Agent": f"labfleet/{version('labfleet')}"}
        self._runner = asyncio.Runner()

    def call(self, calls: Sequence[Call]) -> list[Answer]:
        """Make all calls at once; their answers in the same order."""
        return self._runner.run(self._all(calls))

    def close(self) -> None:
        """End what is left of the calls."""
        self._runner.close()

    async def _all(self, calls: Sequence[Call]) -> list[Answer]:
        return await asyncio.gather(*(self._timed(call) for call in calls))

    async def _timed(self, call: Call) -> Answer:
        with metrics.SECONDS.time():
            return await self._one(call)

    async def _one(self, call: Call) -> Answer:
        limit = self._section.timeout_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                return _judge(await self._post(call))
        except TimeoutError as error:
            late = f"No answer within {limit:g} seconds."
            return Answer(error=late if deadline.expired() else _reason(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(error=_reason(error))

    async def _post(self, call: Call) -> int:
        if fault := fault_of(call.url):
            raise AddressRefused(f"A webhook's URL {fault}.")
        url = httpx.URL(call.url)
        host = url.raw_host.decode("ascii")
        addresses = await _resolve(host)
        check_addresses(host, addresses, self._section.allowed_networks)
        failure: httpx.ConnectError | None = None
        for address in addresses:
            try:
                return await self._post_to(url, address, call)
            except httpx.ConnectError as error:  # nothing was sent: the next address may do
                failure = error
        raise failure or AddressRefused(f"{host} has no address")

    async def _post_to(self, url: httpx.URL, address: Address, call: Call) -> int:
        # A client of its own, so that no connection is kept: one to this address may be for another name.
        client = httpx.AsyncClient(
            verify=self._trust,
            trust_env=False,
            timeout=self._section.timeout_seconds,
            follow_redirects=False,
            headers=self._headers,
        )
        request = client.stream(
            "POST",
            url.copy_with(host=str(address)),
            content=call.body,
            headers={**call.headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        async with client, request as response:
            return response.status_code


def check_addresses(host: str, addresses: Sequence[Address], networks: Sequence[Network]) -> None:
    """Raise `AddressRefused` unless each of the addresses may be called."""
    for address in addresses:
        if not is_allowed(address, networks):
            raise AddressRefused(f"{host} leads to {address}, which lies in no network that may be called.")


async def _resolve(host: str) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressRefused(f"{host} can't be resolved: {error}.") from error
    return [ip_address(address[0]) for *_, address in found]


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    redirected = " Redirects are not followed." if 300 <= status < 400 else ""
    return Answer(status, f"The answer was {status}, not 2xx.{redirected}")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise ConfigError(
            f"[webhooks] ca_file {ca_file} can't be used: {error.strerror or error}.",
            hint="Name a file of CA certificates (PEM), readable for everybody.",
        ) from None
    return context
