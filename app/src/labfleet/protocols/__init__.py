"""Protocols: versioned programs with a manifest. Read, judge, describe, keep and hand them out.

`manifest`, `archive`, `check` and `interface` need neither git nor a database, so that the queue
tier can answer for them; `store` (git) and `service` (database) belong to the webserver.
"""

from labfleet.protocols.archive import ArchiveError, Limits
from labfleet.protocols.check import Report, check_archive, check_tree
from labfleet.protocols.interface import interface_of
from labfleet.protocols.manifest import Manifest, read_manifest
from labfleet.protocols.problems import InvalidProtocol, Problem

__all__ = [
    "ArchiveError",
    "InvalidProtocol",
    "Limits",
    "Manifest",
    "Problem",
    "Report",
    "check_archive",
    "check_tree",
    "interface_of",
    "read_manifest",
]
