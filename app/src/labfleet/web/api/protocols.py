"""Protocols: which there are, what they want, and whether a new one is good."""

from __future__ import annotations

from io import BytesIO

from labfleet.db.models import ProtocolVersion
from labfleet.protocols import service
from labfleet.protocols.check import check_archive
from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest
from labfleet.web.api import schemas, views
from labfleet.web.api.blueprints import user
from labfleet.web.files import read_body
from labfleet.web.services import services

MAX_ARCHIVE = 16 * 1024 * 1024
TAR = {"schema": {"type": "string", "format": "binary"}}
BODY = {"required": True, "content": {"application/x-tar": TAR, "application/gzip": TAR}}


@user.get("/protocols")
@user.doc(tags=["protocols"], operation_id="list_protocols")
@user.output(schemas.Protocols)
def list_protocols() -> schemas.Protocols:
    """List the protocols"""
    with services().sessions() as db:
        return schemas.Protocols(items=[views.protocol(row) for row in service.list_protocols(db)])


@user.get("/protocols/<name>")
@user.doc(tags=["protocols"], operation_id="show_protocol")
@user.output(schemas.Protocol)
def show_protocol(name: str) -> schemas.Protocol:
    """Show a protocol"""
    with services().sessions() as db:
        return views.protocol(service.get_protocol(db, name))


@user.get("/protocols/<name>/interface")
@user.doc(tags=["protocols"], operation_id="show_interface")
@user.input(schemas.VersionQuery, location="query")
@user.output(schemas.Interface)
def show_interface(name: str, query_data: schemas.VersionQuery) -> schemas.Interface:
    """Show a protocol's interface"""
    with services().sessions() as db:
        return interface(service.find_version(db, name, query_data.version))


def interface(version: ProtocolVersion) -> schemas.Interface:
    """The interface of a version."""
    manifest = Manifest.model_validate(version.manifest)
    return schemas.Interface.model_validate({**interface_of(manifest), "commit": version.commit})


@user.post("/protocols/check")
@user.doc(tags=["protocols"], operation_id="check_protocol", extensions={"requestBody": BODY})
@user.output(schemas.Check)
def check_protocol() -> schemas.Check:
    """Check a protocol

    The body is the protocol as a tar or tar.gz. Nothing of it is kept or run.
    """
    return schemas.Check.model_validate(check_archive(BytesIO(read_body(MAX_ARCHIVE))).as_dict())
