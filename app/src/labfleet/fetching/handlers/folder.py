"""Files of folders that the admin has opened: a mounted share, a measuring machine's directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import ClassVar

from labfleet.fetching.handlers.base import PIECE, Fetched, FetchFailed, Handler, Receiver, Schema, Task


class Folder(Handler):
    """A file below one of the folders that are open to sources."""

    title = "Local or shared folder"
    description = "A file of a folder that the lab's admin has opened, such as a network share."
    parameters: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "title": "Path",
                "description": "The whole path of the file on the webserver, such as /srv/plates/today.csv.",
                "minLength": 2,
                "maxLength": 1000,
                "pattern": "^/",
            }
        },
        "required": ["path"],
        "additionalProperties": False,
    }

    def fetch(self, task: Task) -> Fetched:
        """Copy the file. What lies outside of the folders, by its path or by a link, is refused."""
        path = Path(task.parameters["path"])
        try:
            descriptor = _opened(path, task.folders)
        except FileNotFoundError:
            raise FetchFailed(f"There is no file {path}.") from None
        except OSError as error:
            raise FetchFailed(f"{path} can't be read: {error.strerror}.") from None
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            os.close(descriptor)
            raise FetchFailed(f"{path} is no file.")
        with os.fdopen(descriptor, "rb") as file, Receiver(task, told.st_size) as received:
            while piece := file.read(PIECE):
                received.take(piece)
        return Fetched(received.path, path.name)


def _opened(path: Path, folders: tuple[Path, ...]) -> int:
    """The file, which lies below one of the folders after all links were followed."""
    if not folders:
        raise FetchFailed("No folder of this Labfleet is open to sources: ask an admin.")
    if not any(Path(os.path.normpath(path)).is_relative_to(folder) for folder in folders):
        raise _outside(path, folders)  # whether it is there is told to nobody
    # Without waiting for the other end of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    # Of what was opened, not of what the path leads to by now.
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    if any(real.is_relative_to(folder.resolve()) for folder in folders):
        return descriptor
    os.close(descriptor)
    raise _outside(path, folders)


def _outside(path: Path, folders: tuple[Path, ...]) -> FetchFailed:
    opened = ", ".join(map(str, folders))
    return FetchFailed(f"{path} lies in none of the folders that are open to sources: {opened}.")
