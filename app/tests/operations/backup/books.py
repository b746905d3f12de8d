"""What the books of a lab say: rows and checksums of what can't change any more, and how the backups went."""

from __future__ import annotations

import json
import time
from typing import Any

from acceptance.lab import Machine
from acceptance.waiting import wait_for
from resilience.ledger import query

LOOK = 1.0
OF_TASKS = "t.task_id IN (SELECT s.id FROM tasks s JOIN jobs j ON j.id = s.job_id WHERE j.label = '{label}')"
OF_JOBS = {
    "jobs": "t.label = '{label}'",
    "tasks": "t.job_id IN (SELECT id FROM jobs WHERE label = '{label}')",
    "attempts": OF_TASKS,
    "artifacts": OF_TASKS,
    "events": "t.job_id IN (SELECT id FROM jobs WHERE label = '{label}')",
    "users": "true",
    "datasets": "true",
    "protocols": "true",
    "protocol_versions": "true",
}
SUM = (
    "SELECT count(*) AS n, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text AS sum "
    "FROM {table} t"
)


def sums(database: Machine, label: str) -> dict[str, tuple[int, str]]:
    """Rows and checksum of the finished jobs of a label, and of everything that stands beside them."""
    found = {}
    for table, condition in OF_JOBS.items():
        statement = f"{SUM.format(table=table)} WHERE {condition.format(label=label)}"
        (row,) = query(database, statement)
        found[table] = (int(row["n"]), str(row["sum"]))
    return found


def status(machine: Machine, name: str) -> dict[str, Any]:
    """How a part's backup or check went last."""
    told: dict[str, Any] = json.loads(machine.run(f"cat /var/lib/labfleet-backup/status/{name}.json"))
    return told


def wait_backed_up(database: Machine, webserver: Machine, seconds: float = 180) -> None:
    """Wait until timers have taken all that was committed before this call."""
    begin = float(query(database, "SELECT extract(epoch FROM clock_timestamp())::float AS now")[0]["now"])
    (row,) = query(database, "SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name")

    def archived() -> bool:
        return bool(
            query(database, f"SELECT last_archived_wal >= '{row['name']}' AS done FROM pg_stat_archiver")[0][
                "done"
            ]
        )

    wait_for(archived, seconds, "the segment to be archived", None, LOOK)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(begin, time.time())))
    for machine, part in ((database, "wal"), (webserver, "files")):
        wait_for(
            lambda machine=machine, part=part: (
                (told := status(machine, part))["ok"] and told["started"] > since
            ),
            seconds,
            f"a backup of {part} by its timer",
            lambda machine=machine, part=part: status(machine, part),
            LOOK,
        )
