"""Runs a protocol in Python several times in one process: to start one with its libraries takes seconds.

In the protocol's folder, by the Python of its environment: reads from standard input a list of
`{parameters, inputs, outputs, progress}` and writes a list of `{code, out, error}`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))


def once(case: dict[str, Any]) -> dict[str, Any]:
    import main
    from lib.talk import run

    os.environ |= {f"LABFLEET_{name.upper()}": path for name, path in case.items()}
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = run(main.main)
    return {"code": code, "out": out.getvalue(), "error": error.getvalue()}


if __name__ == "__main__":
    json.dump([once(case) for case in json.load(sys.stdin)], sys.stdout)
