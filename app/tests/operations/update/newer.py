"""A newer release: a copy of this checkout with a higher version, and what a test wants to be different."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from acceptance.lab import REPOSITORY
from acceptance.playbook import Run, play

from labfleet.db.upgrade import newest

VERSIONS = "app/src/labfleet/db/migrations/versions"
MIGRATION = '''"""{title}."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None
phase = "{phase}"
rollback_safe = {safe}


def upgrade() -> None:
    op.execute("{statement}")
'''


@dataclass(frozen=True)
class Checkout:
    """A checkout of the repository from which playbooks are run."""

    folder: Path
    version: str

    def play(self, inventory: Path, playbook: str, *options: str) -> Run:
        """Run one of its playbooks."""
        return play(inventory, playbook, *options, folder=self.folder)

    def edit(self, path: str, old: str, new: str) -> None:
        """Change a file of it; what is to be replaced must be there."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1))

    def migrations(self) -> None:
        """Add a migration of each phase; the older code can live with both."""
        last = int(newest() or 0)
        self._migration(last + 1, "pre", "CREATE TABLE trial_pre (id bigint)", safe=True)
        self._migration(last + 2, "post", "CREATE TABLE trial_post (id bigint)", safe=True)

    def deadly_migration(self) -> str:
        """Add to these one that the older code can't live with; its revision."""
        last = int(newest() or 0)
        return self._migration(last + 3, "post", "CREATE TABLE trial_deadly (id bigint)", safe=False)

    def _migration(self, number: int, phase: str, statement: str, *, safe: bool) -> str:
        revision, before = f"{number:04}", f"{number - 1:04}"
        text = MIGRATION.format(
            title=f"Trial {phase}",
            revision=revision,
            before=before,
            phase=phase,
            safe=safe,
            statement=statement,
        )
        (self.folder / VERSIONS / f"{revision}_trial.py").write_text(text)
        return revision


def checkout(folder: Path, version: str) -> Checkout:
    """A copy of what git knows of this checkout (and of new files), with another version."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    # The controller's environment and the releases that it has built.
    (folder / ".lab").symlink_to(REPOSITORY / ".lab")
    project = folder / "app" / "pyproject.toml"
    project.write_text(
        re.sub(
            r'^version = ".*"$', f'version = "{version}"', project.read_text(), count=1, flags=re.MULTILINE
        )
    )
    return Checkout(folder, version)
