"""The CGI program of the queue tier (fcgiwrap starts it for each request).

It needs the standard library only and is meant for an isolated interpreter without `site`:
`python -I -S …/labfleet/runner/cgi.py`, or a launcher of two lines with the interpreter in its
first: `#!<venv>/bin/python -IS`. Environment: CGI's own, `LABFLEET_CONFIG` (TOML, `[runner]`) and
`CREDENTIALS_DIRECTORY` (with the file `front_ends`), both inherited from fcgiwrap or given by nginx.
"""

import sys

if __name__ == "__main__":
    # An isolated interpreter without `site` knows neither this directory nor site-packages.
    sys.path.insert(0, __file__.rpartition("/labfleet/")[0])

from labfleet.runner.lean import ITIMER_REAL, SIGALRM, dumps, setitimer, signal, write
from labfleet.runner.limits import read_limits
from labfleet.runner.problem import Problem, too_late
from labfleet.runner.request import answer

STDOUT = 1
EXTRA_HEADERS = {
    401: 'WWW-Authenticate: Basic realm="labfleet runner", charset="UTF-8"\r\n',
    405: "Allow: GET, POST\r\n",
    503: "Retry-After: 5\r\n",
}


def main() -> None:
    """Answer one request on standard output."""
    try:
        limits = read_limits()
        # fcgiwrap has no time limit of its own, and a hung program would hold one of its processes.
        signal(SIGALRM, _out_of_time)
        setitimer(ITIMER_REAL, limits.timeout_seconds)
        status, body = answer(limits)
        setitimer(ITIMER_REAL, 0)
        respond(status, body)
    except Problem as problem:
        respond(problem.status, problem.document())


def respond(status: int, body: object) -> None:
    """Write the head and the JSON body."""
    kind = "application/json" if status < 400 else "application/problem+json"
    payload = (dumps(body) + "\n").encode()
    head = (
        f"Status: {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(payload)}\r\n"
        f"Cache-Control: no-store\r\n{EXTRA_HEADERS.get(status, '')}\r\n"
    )
    rest = head.encode() + payload
    while rest:
        rest = rest[write(STDOUT, rest) :]


def _out_of_time(signum: int, frame: object) -> None:
    raise too_late()


if __name__ == "__main__":
    main()
