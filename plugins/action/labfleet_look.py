# SPDX-License-Identifier: Apache-2.0
"""The controller's part of the module `labfleet_look`: how far the machine's clock is from this one."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module and adds `clock_seconds`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module between two looks at the controller's own clock."""
        super().run(tmp, task_vars)
        begin = time.time()
        result: dict[str, Any] = self._execute_module(task_vars=task_vars)
        if "now" in result:
            result["clock_seconds"] = ahead(result["now"], begin, time.time())
        return result


def ahead(now: float, begin: float, end: float) -> float:
    """Seconds that a clock read between `begin` and `end` is ahead of ours (behind: negative) for certain."""
    if now > end:
        return now - end
    return min(now - begin, 0.0)
