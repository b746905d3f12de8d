"""Figures of the process that sends mails."""

from __future__ import annotations

from labfleet.metrics import SUM, Counter, Gauge, Histogram

MAILS = Counter("labfleet_mails", "Mails by what came of a try to send them.", ["result"])
SENT, TO_BE_TRIED_AGAIN, GIVEN_UP, EXPIRED = (
    MAILS.labels(result) for result in ("sent", "to_be_tried_again", "given_up", "expired")
)
ENDS = Counter("labfleet_job_mails", "Ends of jobs by how they were told in mails.", ["told"])
SINGLY, TOGETHER, NOT = (ENDS.labels(told) for told in ("singly", "in_a_digest", "not"))
SECONDS = Histogram(
    "labfleet_mail_seconds",
    "How long it took to hand a mail to the server.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25),
)
OVERDUE = Gauge(
    "labfleet_mails_overdue_seconds", "For how long a mail has been due, at most.", multiprocess_mode=SUM
)
ROUND = Gauge("labfleet_mailer_round_seconds", "When it came round last (since 1970).", multiprocess_mode=SUM)
