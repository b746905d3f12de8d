"""Declares at the broker what a publisher declares: PORT VHOST WORKER KEY…, password on input."""

import sys

from amqp import Connection

from labfleet.config import PublisherSection
from labfleet.runner.topology import declare

port, vhost, worker, *keys = sys.argv[1:]
settings = PublisherSection(workers=[worker], keys=keys)
with Connection(
    f"127.0.0.1:{port}", userid="labfleet_publisher", password=sys.stdin.read(), virtual_host=vhost
) as connection:
    declare(connection, settings)
