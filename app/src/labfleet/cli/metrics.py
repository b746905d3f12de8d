"""`labfleet metrics`: the exporter of this machine's figures."""

from __future__ import annotations

import importlib.util
import ipaddress
from pathlib import Path

import click

from labfleet import log, systemd
from labfleet.errors import Invalid


@click.command("metrics")
@click.option("--listen", required=True, metavar="ADDRESS:PORT", help="Where Prometheus finds it.")
@click.option(
    "--allow",
    "networks",
    multiple=True,
    required=True,
    metavar="NETWORK",
    help="Who may ask; several may be given.",
)
@click.option(
    "--process",
    "processes",
    multiple=True,
    metavar="NAME=DIRECTORY",
    help="Where a process of ours counts.",
)
@click.option("--certificate", "certificates", multiple=True, type=click.Path(path_type=Path))
@click.option(
    "--backup-status", type=click.Path(path_type=Path), help="What the last backup has left, as JSON."
)
@click.option(
    "--upkeep",
    type=click.Path(path_type=Path),
    help="Where a file for each piece of upkeep is as old as its last success.",
)
@click.option(
    "--tls",
    nargs=3,
    type=click.Path(path_type=Path),
    metavar="CERTIFICATE KEY CLIENTS",
    help="Answer by TLS, and only those whose certificate an authority in CLIENTS has signed.",
)
@click.option("--release", default="", help="The release that is installed.")
def metrics(  # noqa: PLR0917 - each is an option
    listen: str,
    networks: tuple[str, ...],
    processes: tuple[str, ...],
    certificates: tuple[Path, ...],
    backup_status: Path | None,
    upkeep: Path | None,
    tls: tuple[Path, Path, Path] | None,
    release: str,
) -> None:
    """Answer Prometheus (run by labfleet-metrics.service)."""
    from labfleet.metrics.exporter import Server, Sources, only_for  # noqa: PLC0415

    log.configure()
    address, _, port = listen.rpartition(":")
    try:
        allowed = [ipaddress.ip_network(network) for network in networks]
        sources = Sources(
            {name: Path(directory) for name, directory in (one.split("=", 1) for one in processes)},
            certificates,
            backup_status,
            upkeep,
            release,
        )
        context = only_for(tls[2], tls[0], tls[1]) if tls else None
        server = Server((address.strip("[]"), int(port)), sources, allowed, context)
    except ValueError as error:
        raise Invalid(
            f"An option can't be understood: {error}.", hint="See 'labfleet metrics --help'."
        ) from None
    systemd.notify("READY=1")
    server.serve_forever()


# The library comes with the extras of the tiers; the command line of users has no use for it.
COMMANDS: list[click.Command] = [metrics] if importlib.util.find_spec("prometheus_client") else []
