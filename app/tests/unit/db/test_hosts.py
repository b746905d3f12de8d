"""Of several hosts of the database the one that takes writes is used; a silent one is given up."""

from __future__ import annotations

from labfleet.config import DatabaseSection
from labfleet.db.engine import database_url


def test_one_host_is_reached_as_ever() -> None:
    url = database_url(DatabaseSection(hosts=["10.0.0.1"]), "secret")
    assert dict(url.query) == {"host": "10.0.0.1", "port": "5432"}


def test_of_several_the_one_that_takes_writes() -> None:
    url = database_url(DatabaseSection(hosts=["10.0.0.1", "10.0.0.2"], silent_seconds=8), "secret")
    assert (url.query["host"], url.query["port"]) == ("10.0.0.1,10.0.0.2", "5432,5432")
    assert url.query["target_session_attrs"] == "read-write"
    assert url.query["tcp_user_timeout"] == "8000"
    kept = int(str(url.query["keepalives_idle"]))
    kept += int(str(url.query["keepalives_interval"])) * int(str(url.query["keepalives_count"]))
    assert kept <= 8
