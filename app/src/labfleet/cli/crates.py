"""`labfleet export import`: a job as an RO-Crate, and a job out of one."""

from __future__ import annotations

import tempfile
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from labfleet.cli.client import CHUNK, Client, ServerProblem, at
from labfleet.cli.download import Damaged
from labfleet.cli.output import json_option, print_json, with_client
from labfleet.cli.transfer import bar, upload_with_bar
from labfleet.crates.reading import Crate, CrateInput, CrateProtocol, InvalidCrate
from labfleet.errors import Conflict


class OtherContent(Conflict):
    """The server has this version of the protocol with other files."""

    code = "other_content"
    title = "The protocol differs"
    default_hint = "Give the crate's protocol another name or version, push it, and submit the job anew."


@click.command("export")
@click.argument("job")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; JOB.crate.zip without it.",
)
@with_client
def export_job(client: Client, job: str, output: Path | None) -> None:
    """Write JOB as an RO-Crate.

    One ZIP with protocols, inputs, parameters, results and where they come from, after the profile Workflow
    Run Crate; other tools read it, and 'labfleet import' makes the job of it anew. The job must have ended.
    """
    target = output or Path(f"{job}.crate.zip")
    part = target.with_name(f".{target.name}.part")
    try:
        with (
            client.stream(at("jobs", job, "crate")) as response,
            bar(f"export {target.name}", 0) as tell,
            part.open("wb") as file,
        ):
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)
                tell(len(chunk))
        _require_whole(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    click.echo(target)


def _require_whole(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        raise Damaged(f"The crate arrived damaged: {error}.") from None
    if broken:
        raise Damaged(f"The crate arrived damaged, at {broken}.")


@click.command("import")
@click.argument("file", metavar="CRATE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be sent and submitted.")
@json_option
@with_client
def import_job(client: Client, file: Path, dry_run: bool, as_json: bool) -> None:
    """Make the job of CRATE anew, on this server.

    Protocols that the server lacks are sent to it from the crate (they become yours, after its check), and so
    are inputs that are none of your datasets. The new job runs with the same versions and parameters.
    """
    with Crate(file) as crate:
        say = _silence if as_json else _say
        versions = {
            item.name: _protocol(client, crate, item, dry_run=dry_run, say=say) for item in crate.protocols()
        }
        datasets = _datasets(client, crate, dry_run=dry_run, say=say)
        request = rewritten(crate.request, versions, datasets)
    if dry_run:
        print_json(request)
        return
    job = client.post("jobs", request, key=f"import-{uuid.uuid4()}")
    if as_json:
        print_json(job)
    else:
        click.echo(job["id"])


def _say(text: str) -> None:
    click.echo(text, err=True)


def _silence(text: str) -> None:
    del text


def _protocol(
    client: Client, crate: Crate, item: CrateProtocol, *, dry_run: bool, say: Callable[[str], None]
) -> str:
    """The version by which the server knows the protocol, sent to it if need be."""
    try:
        found = client.get(at("protocols", item.name, "interface"), version=item.version)
    except ServerProblem as problem:
        if problem.code not in {"unknown_protocol", "unknown_version"}:
            raise
    else:
        if found["tree"] != item.tree:
            raise OtherContent(
                f"The server has {item.name} {item.version} with other files than the crate "
                f"(commit {found['commit'][:12]}, not {item.commit[:12]})."
            )
        return item.version
    packed = crate.packed(item)
    say(f"sending the protocol {item.name} {item.version}")
    if dry_run:
        return item.version
    kept = client.send_protocol(packed)
    if (kept["protocol"], kept["version"]) != (item.name, item.version):
        raise InvalidCrate(
            f"The crate calls a protocol {item.name} {item.version} that says {kept['protocol']} "
            f"{kept['version']} of itself."
        )
    return item.version


def _datasets(client: Client, crate: Crate, *, dry_run: bool, say: Callable[[str], None]) -> dict[str, str]:
    """The datasets of the crate's request: theirs → yours."""
    inputs = crate.inputs()
    if not inputs:
        return {}
    mine = {(item["sha256"], item["name"]): str(item["id"]) for item in client.every("datasets")}
    found: dict[str, str] = {}
    for item in inputs:
        known = mine.get((item.sha256, item.name))
        if known is None:
            say(f"uploading {item.name}")
            known = item.datasets[0] if dry_run else _upload(client, crate, item)
        found |= dict.fromkeys(item.datasets, known)
    return found


def _upload(client: Client, crate: Crate, item: CrateInput) -> str:
    with tempfile.TemporaryDirectory(prefix="labfleet-import-") as folder:
        place = Path(folder, "input")
        crate.save(item, place)
        return str(upload_with_bar(client, place, item.name)["id"])


def rewritten(request: Any, versions: Mapping[str, str], datasets: Mapping[str, str]) -> Any:
    """The request with the versions that were used and with your datasets in place of theirs. What leads to
    somebody (its webhook, its mail) is left out."""
    new = _node(request, versions, datasets)
    new.pop("webhook", None)
    new.pop("mail", None)
    new.pop("hold", None)
    return new


def _node(node: Any, versions: Mapping[str, str], datasets: Mapping[str, str]) -> Any:
    if not isinstance(node, dict):
        return node
    new = dict(node)
    if isinstance(name := new.get("protocol"), str) and not new.get("version") and name in versions:
        new["version"] = versions[name]
    if isinstance(inputs := new.get("inputs"), dict):
        new["inputs"] = {slot: _yours(given, datasets) for slot, given in inputs.items()}
    if isinstance(sweep := new.get("sweep"), dict):
        new["sweep"] = {way: _sweep(values, datasets) for way, values in sweep.items()}
    for kind in ("sequential", "parallel"):
        if isinstance(new.get(kind), list):
            new[kind] = [_node(child, versions, datasets) for child in new[kind]]
    if "tree" in new:
        new["tree"] = _node(new["tree"], versions, datasets)
    return new


def _sweep(values: Any, datasets: Mapping[str, str]) -> Any:
    if isinstance(values, dict):
        return {
            name: [_yours(value, datasets) for value in several]
            if name.startswith("inputs.") and isinstance(several, list)
            else several
            for name, several in values.items()
        }
    if isinstance(values, list):
        return [_node(point, {}, datasets) for point in values]
    return values


def _yours(given: Any, datasets: Mapping[str, str]) -> Any:
    return datasets.get(given, given) if isinstance(given, str) else given


COMMANDS: list[click.Command] = [export_job, import_job]
