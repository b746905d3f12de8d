"""A job of the deployed lab as an RO-Crate."""

from __future__ import annotations

import io
import json
import zipfile

from .api import Api


def test_a_job_as_a_crate(user: Api) -> None:
    task = user.wait(user.submit("acceptance-noop", {"number": 7}))
    answer = user.http.get(f"/api/v1/jobs/{task['job']}/crate")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as crate:
        assert crate.testzip() is None
        described = json.loads(crate.read("ro-crate-metadata.json"))["@graph"]
        programs = [name for name in crate.namelist() if name.endswith("/main.py")]
    assert len(programs) == 1
    (parameter,) = [
        entity for entity in described if entity["@type"] == "PropertyValue" and entity["name"] == "number"
    ]
    assert parameter["value"] == 7
    actions = {entity["@id"]: entity for entity in described if entity["@type"] == "CreateAction"}
    assert set(actions) == {f"#job-{task['job']}", f"#task-{task['id']}"}
    assert actions[f"#task-{task['id']}"]["environment"]
