"""The user's verbs, all against a server over HTTP.

Exit codes: 0 done, 1 an error (one line and a hint on standard error), 2 wrong usage; `watch` and
`submit --watch` tell the job's end: 3 failed, 4 partial, 5 inapplicable, 6 cancelled, 7 failed by a
fault of Labfleet itself, 130 watching was interrupted.
"""

from __future__ import annotations

import click

from labfleet.cli import jobs, queue, verbs
from labfleet.cli.audit import audit
from labfleet.cli.browser_sessions import session
from labfleet.cli.catalogue import datasets, workers
from labfleet.cli.crates import export_job, import_job
from labfleet.cli.git_credential import git_credential
from labfleet.cli.invitation import invitation
from labfleet.cli.mail import mail
from labfleet.cli.protocols import protocols
from labfleet.cli.search import search
from labfleet.cli.session import login
from labfleet.cli.sources import sources
from labfleet.cli.submit import resubmit, submit, validate
from labfleet.cli.tokens import tokens
from labfleet.cli.watch import watch

SECTIONS: dict[str, list[click.Command]] = {
    "Submit and follow": [login, validate, submit, watch, resubmit],
    "Find and look": jobs.COMMANDS,
    "Take away and bring back": [export_job, import_job],
    "Act on jobs and tasks": verbs.COMMANDS,
    "What there is": [search, protocols, datasets, sources, workers, git_credential],
    "Who comes next, and where": queue.COMMANDS,
    "Accounts": [session, tokens, invitation, audit, mail],
}
COMMANDS: list[click.Command] = [command for section in SECTIONS.values() for command in section]
