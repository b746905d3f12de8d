"""Bring files from the server: checked by SHA-256, whole or not at all, taken up where it broke off."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

from labfleet.cli.client import CHUNK, Client, at
from labfleet.cli.transfer import bar
from labfleet.errors import Invalid, LabfleetError


class Damaged(LabfleetError):
    """The bytes that came are not those that the server announced."""

    code = "damaged"
    title = "A file arrived damaged"
    default_hint = "Fetch it again; if it stays so, tell the server's admin."


def fetch_job(client: Client, job: str, directory: Path) -> Iterator[Path]:
    """The results of a job below `directory`, for a job of several tasks in a folder for each; one by one."""
    several = client.get(at("jobs", job))["counts"]["total"] > 1
    for item in client.every(at("jobs", job, "results")):
        place = directory / safe_name(item["task_name"]) if several else directory
        target = place / safe_name(item["name"])
        yield fetch(client, at("artifacts", item["id"], "content"), target, item["sha256"], item["size"])


def safe_name(name: str) -> PurePosixPath:
    """A server's file name as a path below ours; whatever leads elsewhere is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
        raise Invalid(f"The server sent the file name {name!r}.", hint="Tell the server's admin.")
    return path


def fetch(client: Client, url: str, target: Path, sha256: str, size: int) -> Path:
    """Bring one file to `target`; nothing is moved if it is there already."""
    if target.is_file() and target.stat().st_size == size and _sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{sha256[:12]}.part")
    _receive(client, url, part, size)
    if _sha256(part) != sha256:
        part.unlink()
        raise Damaged(f"{target.name} arrived damaged.")
    part.replace(target)
    return target


def _receive(client: Client, url: str, part: Path, size: int) -> None:
    start = part.stat().st_size if part.exists() else 0
    if start >= size > 0:
        return
    with client.stream(url, start) as response, bar(f"fetch {part.name[1:-18]}", size, start) as tell:
        # 206 goes on where we broke off; anything else is the whole file.
        mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
        with part.open(mode) as file:
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)
                tell(len(chunk))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_dataset(client: Client, dataset: dict[str, Any], target: Path) -> Path:
    """Bring a dataset to `target`."""
    url = at("datasets", dataset["id"], "content")
    return fetch(client, url, target, dataset["sha256"], dataset["size"])
