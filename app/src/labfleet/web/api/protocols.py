"""Protocols: which there are, what they want, whose they are, and taking in new ones."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from sqlalchemy.orm import Session

from labfleet.db.models import Protocol, ProtocolVersion, SelfTest
from labfleet.jobs import quotas
from labfleet.protocols import access, service
from labfleet.protocols.check import check_archive
from labfleet.protocols.compare import interface_changes
from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest
from labfleet.users.scopes import Scope
from labfleet.web import self_testing
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.auth import current_user, needs
from labfleet.web.files import read_body
from labfleet.web.keeping import keep_archive
from labfleet.web.services import services

TAR = {"schema": {"type": "string", "format": "binary"}}
BODY = {"required": True, "content": {"application/x-tar": TAR, "application/gzip": TAR}}
Kept = tuple[schemas.KeptVersion, int, dict[str, str]]


@user.get("/protocols")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="list_protocols")
@user.input(schemas.ProtocolQuery, location="query")
@user.output(schemas.Protocols)
def list_protocols(query_data: schemas.ProtocolQuery) -> schemas.Protocols:
    """List the protocols that you may see"""
    with services().sessions() as db:
        rows = service.list_protocols(db, current_user(), query_data.text)
        return schemas.Protocols(items=[views.protocol(row, current_user()) for row in rows])


@user.post("/protocols")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="send_protocol", extensions={"requestBody": BODY})
@user.output(schemas.KeptVersion, status_code=201)
def send_protocol() -> Kept:
    """Keep a protocol

    The body is the protocol as a tar or tar.gz. It becomes a protocol of yours, which only you see, or a new
    version of one of yours: its `protocol.yml` says name and version. With a fault nothing of it is kept, and
    `problems` names each by file and line. The same version with the same content is answered with 200.
    """
    return _keep(None)


@user.get("/protocols/<name>")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="show_protocol")
@user.output(schemas.Protocol)
def show_protocol(name: str) -> schemas.Protocol:
    """Show a protocol"""
    with services().sessions() as db:
        return views.protocol(service.get_protocol(db, current_user(), name), current_user())


@user.delete("/protocols/<name>")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="delete_protocol")
@user.output({}, status_code=204)
def delete_protocol(name: str) -> tuple[str, int]:
    """Delete a protocol of yours that no result points to"""
    with services().sessions.begin() as db:
        service.delete(db, current_user(), name)
    services().protocols.remove(name)
    return "", 204


@user.get("/protocols/<name>/versions")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="list_versions")
@user.output(schemas.Versions)
def list_versions(name: str) -> schemas.Versions:
    """List a protocol's versions, newest first"""
    with services().sessions() as db:
        rows = service.get_protocol(db, current_user(), name).versions
        return schemas.Versions(items=[schemas.Version.model_validate(row) for row in rows])


@user.post("/protocols/<name>/versions")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="send_version", extensions={"requestBody": BODY})
@user.output(schemas.KeptVersion, status_code=201)
def send_version(name: str) -> Kept:
    """Keep a version of the protocol of this name

    As `POST protocols`, but `protocol.yml` must say this name.
    """
    return _keep(name)


def _keep(name: str | None) -> Kept:
    version = keep_archive(
        current_user(), BytesIO(read_body(services().settings.protocols.max_archive_bytes)), name
    )
    manifest = version.manifest
    answer = schemas.KeptVersion(
        protocol=manifest.name, version=version.name, commit=version.commit, created=version.created
    )
    return answer, 201 if version.created else 200, {"Location": f"/api/v1/protocols/{manifest.name}"}


@user.get("/protocols/<name>/interface")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="show_interface")
@user.input(schemas.VersionQuery, location="query")
@user.output(schemas.KeptInterface)
def show_interface(name: str, query_data: schemas.VersionQuery) -> schemas.KeptInterface:
    """Show a protocol's interface"""
    with services().sessions() as db:
        return interface(service.find_version(db, current_user(), name, query_data.version))


def interface(version: ProtocolVersion) -> schemas.KeptInterface:
    """The interface of a version."""
    manifest = Manifest.model_validate(version.manifest)
    described = {
        **interface_of(manifest),
        "version": version.version,
        "commit": version.commit,
        "tree": services().protocols.tree(version.protocol.name, version.commit),
    }
    return schemas.KeptInterface.model_validate(described)


@user.get("/protocols/<name>/self-tests")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="list_self_tests")
@user.output(schemas.SelfTests)
def list_self_tests(name: str) -> schemas.SelfTests:
    """List how each version fared that was tried, newest version first"""
    return schemas.SelfTests(items=self_tests_of(name))


def self_tests_of(name: str) -> list[schemas.SelfTest]:
    """The last self-test of each version that the user may see."""
    found = self_testing.verdicts(current_user(), name)
    return [
        views.self_test(row) for row in sorted(found, key=lambda row: row.version.created_at, reverse=True)
    ]


@user.post("/protocols/<name>/self-tests")
@needs(Scope.JOBS)
@user.doc(tags=["protocols"], operation_id="try_version")
@user.input(schemas.SelfTestIn)
@user.output(schemas.SelfTest, status_code=202)
def try_version(name: str, json_data: schemas.SelfTestIn) -> tuple[schemas.SelfTest, int]:
    """Try a version as its protocol.yml says

    An ordinary job of yours does it, with files of the protocol as its data; when that has ended
    `GET protocols/{name}/self-tests` has the verdict. 422 `no_self_test` for a version that does not say how.
    """
    begun = self_testing.begin(current_user(), name, json_data.version)
    with services().sessions() as db:
        return views.self_test(db.get_one(SelfTest, begun)), 202


@user.get("/protocols/<name>/compare")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="compare_versions")
@user.input(schemas.CompareQuery, location="query")
@user.output(schemas.Comparison)
def compare_versions(name: str, query_data: schemas.CompareQuery) -> schemas.Comparison:
    """Compare two versions of a protocol: interface and files"""
    with services().sessions() as db:
        return comparison(db, name, query_data.base, query_data.head)


def comparison(db: Session, name: str, base: str, head: str | None) -> schemas.Comparison:
    """What differs between two versions that the user may see."""
    before, after = (service.find_version(db, current_user(), name, each) for each in (base, head))
    interfaces = (interface_of(Manifest.model_validate(each.manifest)) for each in (before, after))
    files = services().protocols.compare(name, before.commit, after.commit)
    return schemas.Comparison(
        protocol=name,
        base=schemas.Version.model_validate(before),
        head=schemas.Version.model_validate(after),
        interface=[schemas.InterfaceChange.model_validate(each) for each in interface_changes(*interfaces)],
        files=[schemas.FileChange.model_validate(each) for each in files],
    )


@user.post("/protocols/check")
@needs(Scope.READ)
@user.doc(tags=["protocols"], operation_id="check_protocol", extensions={"requestBody": BODY})
@user.output(schemas.Check)
def check_protocol() -> schemas.Check:
    """Check a protocol

    The body is the protocol as a tar or tar.gz. Nothing of it is kept or run.
    """
    return schemas.Check.model_validate(
        check_archive(BytesIO(read_body(services().settings.protocols.max_archive_bytes))).as_dict()
    )


@user.post("/protocols/<name>/share")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="share_protocol")
@user.input(schemas.People)
@user.output(schemas.Protocol)
def share_protocol(name: str, json_data: schemas.People) -> schemas.Protocol:
    """Let users and groups see and use a protocol of yours"""
    return _changed(
        lambda db: access.share(db, current_user(), name, users=json_data.users, groups=json_data.groups)
    )


@user.post("/protocols/<name>/unshare")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="unshare_protocol")
@user.input(schemas.People)
@user.output(schemas.Protocol)
def unshare_protocol(name: str, json_data: schemas.People) -> schemas.Protocol:
    """Take a protocol of yours back from users and groups"""
    return _changed(
        lambda db: access.unshare(db, current_user(), name, users=json_data.users, groups=json_data.groups)
    )


@user.post("/protocols/<name>/publish")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="publish_protocol")
@user.output(schemas.Protocol)
def publish_protocol(name: str) -> schemas.Protocol:
    """Let everybody see and use a protocol of yours"""
    return _changed(lambda db: access.publish(db, current_user(), name))


@user.post("/protocols/<name>/withdraw")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="withdraw_protocol")
@user.output(schemas.Protocol)
def withdraw_protocol(name: str) -> schemas.Protocol:
    """Take a protocol of yours back from everybody but those it is shared with"""
    return _changed(lambda db: access.withdraw(db, current_user(), name))


@user.post("/protocols/<name>/transfer")
@needs(Scope.PROTOCOLS)
@user.doc(tags=["protocols"], operation_id="transfer_protocol")
@user.input(schemas.NewOwner)
@user.output(schemas.Protocol)
def transfer_protocol(name: str, json_data: schemas.NewOwner) -> schemas.Protocol:
    """Give a protocol of yours to another user, whose quota it counts for"""

    def change(db: Session) -> Protocol:
        protocol = access.transfer(db, current_user(), name, json_data.user)
        if protocol.owner is not None:
            quotas.claim_storage(db, protocol.owner, 0)
        return protocol

    return _changed(change)


def _changed(change: Callable[[Session], Protocol]) -> schemas.Protocol:
    with services().sessions.begin() as db:
        protocol = change(db)
        db.expire(protocol)  # what was added or taken away is read anew
        return views.protocol(protocol, current_user())
