"""Credentials of sources: used where they are for, sealed everywhere else; with real processes."""

from __future__ import annotations

import base64
from collections.abc import Callable

from resident import wait_for
from sqlalchemy import select, text

from labfleet.db.models import Dataset, SecondFactor, SourceCredentials, User
from labfleet.fetching.handlers.base import FetchFailed
from labfleet.sources import access, credentials, fetches
from labfleet.sources.vault import Vault
from labfleet.users import second_factor

from .conftest import KEYS, Lab, Sessions, Site

PASSWORD = "p/ss wörd-7c1f"
TOKEN = "tok-9a77e1"


def stored(sessions: Sessions) -> str:
    """All that the database has of sources, as text."""
    with sessions() as db:
        return "".join(
            str(row)
            for table in ("sources", "source_credentials", "fetches", "datasets", "audit")
            for row in db.execute(text(f"SELECT to_jsonb(t)::text FROM {table} t"))
        )


def test_they_are_shown_to_the_server_and_to_nobody_else(lab: Lab, site: Site) -> None:
    site.files |= {"/a.csv": b"x\n1\n", "/moved.csv": b"", "/key.csv": b"x\n2\n"}
    site.status["/moved.csv"] = 302
    # Another origin, for its name is another one.
    site.headers["/moved.csv"] = {"Location": site.url("/a.csv").replace("127.0.0.1", "localhost")}
    user = {"user": "ada", "password": PASSWORD}
    basic = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    given = {
        "basic": (user, {"url": site.url("/a.csv")}),
        "bearer": ({"token": TOKEN}, {"url": site.url("/a.csv")}),
        "header": ({"token": TOKEN}, {"url": site.url("/key.csv"), "header": "X-Api-Key"}),
        "moved": ({"token": TOKEN}, {"url": site.url("/moved.csv"), "header": "X-Api-Key"}),
    }
    for name, (secrets, parameters) in given.items():
        fetch = lab.fetched(lab.source(name, given=secrets, handler="http", parameters=parameters))
        assert fetch.state == "success", fetch.message
    asked = [(path, headers.get("Authorization"), headers.get("X-Api-Key")) for path, headers in site.asked]
    assert asked == [
        ("/a.csv", basic, None),
        ("/a.csv", f"Bearer {TOKEN}", None),
        ("/key.csv", None, TOKEN),
        ("/moved.csv", None, TOKEN),
        ("/a.csv", None, None),
    ]
    kept = stored(lab.sessions)
    assert PASSWORD not in kept and TOKEN not in kept and '"password"' in kept
    for process in (lab.processes.pop("loader"), lab.processes.pop("fetcher")):
        process.terminate()
        _, log = process.communicate(timeout=60)
        assert PASSWORD not in log and TOKEN not in log and "ada" not in log


def test_a_message_shows_none(lab: Lab, site: Site) -> None:
    """Also where the server repeats what it was told."""
    site.status["/no.csv"] = 403
    site.headers["/no.csv"] = {"Content-Encoding": TOKEN}
    source = lab.source(given={"token": TOKEN}, handler="http", parameters={"url": site.url("/no.csv")})
    refused = lab.fetched(source)
    assert refused.state == "failed"
    assert "403 Forbidden. Are the credentials right, and good for this?" in refused.message
    site.headers["/said.csv"] = {"Location": f"ftp://{TOKEN}/"}
    site.status["/said.csv"] = 302
    said = lab.source(
        "said", given={"token": TOKEN}, handler="http", parameters={"url": site.url("/said.csv")}
    )
    told = lab.fetched(said)
    assert told.state == "failed" and TOKEN not in told.message


def test_who_fetches_what_is_shared_uses_those_of_its_owner(
    lab: Lab, site: Site, make_user: Callable[..., User]
) -> None:
    site.files["/a.csv"] = b"x\n1\n"
    eve = make_user("eve")
    source = lab.source(given={"token": TOKEN}, handler="http", parameters={"url": site.url("/a.csv")})
    with lab.sessions.begin() as db:
        access.share(db, db.merge(lab.user), source, users=["eve"])
        fetch, _ = fetches.ask(db, db.merge(eve), source)
    assert lab.ended(fetch).state == "success"
    assert site.asked[0][1]["Authorization"] == f"Bearer {TOKEN}"
    with lab.sessions() as db:
        assert db.scalars(select(Dataset.owner_id)).all() == [lab.user.id]


def test_another_key_takes_over_and_what_no_key_opens_is_said(lab: Lab, site: Site) -> None:
    site.files["/a.csv"] = b"x\n1\n"
    parameters = {"url": site.url("/a.csv")}
    source = lab.source(given={"token": TOKEN}, handler="http", parameters=parameters)
    with lab.sessions.begin() as db:
        row = db.get_one(SourceCredentials, source)
        row.sealed = Vault(["an older one"]).seal(
            source, "http", parameters | {"header": None}, {"token": TOKEN}
        )
        row.key = Vault(["an older one"]).key
        second_factor.prepare(db, lab.user, second_factor.box(["an older one", *KEYS]))
    loader = lab.processes.pop("loader")
    loader.terminate()
    loader.communicate(timeout=60)
    lab.start("loader")

    def renewed() -> bool:
        with lab.sessions() as db:
            factor = db.get_one(SecondFactor, lab.user.id)
            keys = (db.get_one(SourceCredentials, source).key, factor.key)
            return keys == (Vault(KEYS).key, second_factor.box(KEYS).key)

    wait_for(renewed)
    with lab.sessions() as db:
        taken = db.scalars(select(SourceCredentials.sealed)).one()
    assert Vault(KEYS[:1]).open(taken, source, "http", parameters) == {"token": TOKEN}
    assert lab.fetched(source).state == "success"
    with lab.sessions.begin() as db:
        row = db.get_one(SourceCredentials, source)
        row.sealed = Vault(["lost"]).seal(source, "http", parameters | {"header": None}, {"token": TOKEN})
    lost = lab.fetched(source, anew=True)
    assert (lost.state, lost.tries) == ("failed", 1)
    assert lost.message.startswith("Its credentials can't be read any more")


def test_those_of_one_source_do_not_open_for_another(lab: Lab) -> None:
    """Whoever could write to the table would not get them."""
    mine = lab.source(
        "mine", given={"token": TOKEN}, handler="http", parameters={"url": "https://a.example/"}
    )
    other = lab.source("other", handler="http", parameters={"url": "https://a.example/"})
    with lab.sessions() as db:
        taken = db.scalars(select(SourceCredentials.sealed)).one()
    here = {"handler": "http", "parameters": {"url": "https://a.example/"}}
    there = {"handler": "http", "parameters": {"url": "https://b.example/"}}
    assert credentials.opened(Vault(KEYS), taken, mine, here) == {"token": TOKEN}
    for source, definition in ((other, here), (mine, there)):
        try:
            credentials.opened(Vault(KEYS), taken, source, definition)
        except FetchFailed as error:
            assert TOKEN not in str(error)
        else:
            raise AssertionError("opened")
