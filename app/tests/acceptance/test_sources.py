"""Sources of the deployed lab: a file of an open folder becomes a dataset, the lab itself is closed."""

from __future__ import annotations

import json
from uuid import uuid4

from .api import Api, Json
from .lab import Lab
from .waiting import wait_for

TABLE = "cell,count\na,1\nb,2\n"


def test_a_file_of_an_open_folder_becomes_a_dataset_and_the_lab_itself_is_closed(lab: Lab, user: Api) -> None:
    name = f"cells-{uuid4().hex[:8]}"
    path = f"/srv/sources/{name}.csv"
    for machine in lab.of("webserver"):
        machine.run(f"mkdir -p /srv/sources && printf '{json.dumps(TABLE)[1:-1]}' > {path}")
    good = fetched(user, name, {"handler": "folder", "parameters": {"path": path}})
    assert (good["state"], good["rows"], good["tries"]) == ("success", 2, 1), good
    content = user.http.get(f"/api/v1/datasets/{good['dataset']}/content").content
    assert content[:4] == content[-4:] == b"PAR1"
    secret = {"handler": "folder", "parameters": {"path": "/etc/labfleet/webserver.toml"}, "format": "file"}
    inside = {"handler": "http", "parameters": {"url": lab.url}, "format": "file"}
    for number, (definition, message) in enumerate(
        ((secret, "none of the folders"), (inside, "no network that may be fetched from"))
    ):
        bad = fetched(user, f"{name}-{number}", definition)
        assert (bad["state"], bad["dataset"]) == ("failed", None), bad
        assert message in bad["message"], bad


def fetched(user: Api, name: str, definition: Json) -> Json:
    """The one fetch of a new source, when it has ended."""
    made = user.http.post("/api/v1/sources", json={"name": name, "definition": definition})
    assert made.status_code == 201, made.text
    source = made.json()["id"]
    asked = user.http.post(f"/api/v1/sources/{source}/fetches", json={})
    assert asked.status_code == 202, asked.text

    def probe() -> Json | None:
        fetch: Json = user.get(f"sources/{source}")["fetch"]
        return None if fetch["state"] in {"queued", "running"} else fetch

    return wait_for(probe, 60, f"the source {name} to be fetched", lambda: user.get(f"sources/{source}"))
