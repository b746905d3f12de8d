"""A worker with its real consumer and its real presence, for a test: what would be run is printed instead,
one JSON line each. A task with the token `la_hold` runs until the worker stops."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery.signals import worker_ready

from labfleet.config import worker_settings
from labfleet.worker import app as module
from labfleet.worker import steps
from labfleet.worker.presence import Presence
from labfleet.worker.slots import Slots
from labfleet.worker.starter import Order


class Printer:
    """In the place of the starter."""

    def run(self, order: Order) -> None:
        say(run=[order.front_end, order.task, order.number, order.token])
        if order.token == "la_hold":
            module.stopping.wait()


def say(**what: Any) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())  # in one piece: several threads speak


@worker_ready.connect(weak=False)
def ready(**_: Any) -> None:
    say(ready=True)


def prepare(**_: Any) -> None:
    """The worker's own preparation, without a systemd to ask."""
    settings = worker_settings()
    module.machine.starter = Printer()  # type: ignore[assignment]
    slots = Slots(settings.worker.slots, set)
    module.machine.presence = Presence(settings, "lw_x", slots, {"os": "Test 1.0"}, steps.drain)
    module.machine.presence.start()
    module.machine.presence.wait_for_answer()


module.worker_init.disconnect(module._prepare)
module.worker_init.connect(prepare)
steps._stop = lambda name: say(stop=name)
application = module.app
application.worker_main(["worker", "--loglevel=WARNING", *sys.argv[1:]])
