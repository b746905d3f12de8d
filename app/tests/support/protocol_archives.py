"""Small protocols as people send them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def files_of(
    name: str = "mine",
    version: str = "1.0.0",
    title: str = "Mine",
    files: Mapping[str, str] | None = None,
    extra: str = "",
) -> dict[str, str]:
    """A protocol's files by path; `files` goes before, `extra` stands at the end of the manifest."""
    manifest = (
        f'labfleet: 1\nname: {name}\nversion: "{version}"\ntitle: {title}\nkey: python\n'
        f"command: [python3, main.py]{extra}\n"
    )
    return {"protocol.yml": manifest, "main.py": "print('hello')\n", **(files or {})}


def archive(**about: object) -> bytes:
    """A protocol as a tar; arguments as those of `files_of`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in files_of(**about).items():  # type: ignore[arg-type]
            content = text.encode()
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
