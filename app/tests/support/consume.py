"""A worker with its real consumer, for a test: what would be run is printed instead, one JSON line each."""

from __future__ import annotations

import json
import sys
from typing import Any

from celery.signals import worker_ready

from labfleet.worker import app as module
from labfleet.worker import steps
from labfleet.worker.starter import Order


class Printer:
    """In the place of the starter."""

    def run(self, order: Order) -> None:
        say(run=[order.front_end, order.task, order.number, order.token])


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


@worker_ready.connect(weak=False)
def ready(**_: Any) -> None:
    say(ready=True)


module.worker_init.disconnect(module._prepare)
module.machine.starter = Printer()  # type: ignore[assignment]
steps._stop = lambda name: say(stop=name)
application = module.app
application.worker_main(["worker", "--loglevel=WARNING", *sys.argv[1:]])
