"""Which handlers there are: those that ship."""

from __future__ import annotations

from labfleet.fetching.handlers.base import Handler
from labfleet.fetching.handlers.folder import Folder
from labfleet.fetching.handlers.git import Git
from labfleet.fetching.handlers.http import Http
from labfleet.fetching.handlers.mariadb import Mariadb
from labfleet.fetching.handlers.postgresql import Postgresql
from labfleet.fetching.handlers.s3 import S3

SHIPPED: dict[str, type[Handler]] = {
    "http": Http,
    "folder": Folder,
    "s3": S3,
    "postgresql": Postgresql,
    "mariadb": Mariadb,
    "git": Git,
}


def known() -> dict[str, type[Handler]]:
    """The handlers by the names that sources use."""
    return dict(SHIPPED)
