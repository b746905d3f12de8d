"""Remove what programs of users have left, whatever they have made of its rights."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def remove(directory: Path) -> None:
    """Remove a directory with whatever an attempt has left in it, also what it has made unreadable."""
    if not directory.exists():
        return
    directory.chmod(stat.S_IRWXU)
    for path, names, _ in os.walk(directory):
        # From the top, and before the walk looks into them.
        for name in names:
            below = Path(path, name)
            if not below.is_symlink():
                below.chmod(stat.S_IRWXU)
    shutil.rmtree(directory)
