"""The user's verbs, all against a server over HTTP.

Exit codes: 0 done, 1 an error (one line and a hint on standard error), 2 wrong usage; `watch` and
`submit --watch` tell the job's end: 3 failed, 4 partial, 5 inapplicable, 6 cancelled, 7 failed by a
fault of Labfleet itself, 130 watching was interrupted.
"""

from __future__ import annotations

import click

from labfleet.cli.catalogue import datasets, protocols, workers
from labfleet.cli.jobs import cancel, fetch, jobs, show, submit, watch
from labfleet.cli.session import login

COMMANDS: list[click.Command] = [
    login,
    submit,
    watch,
    jobs,
    show,
    cancel,
    fetch,
    protocols,
    datasets,
    workers,
]
