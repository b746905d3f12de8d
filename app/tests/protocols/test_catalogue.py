"""What every protocol that ships promises: it is whole, shows itself, and refuses what is no input."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labfleet.protocols.check import check_tree
from labfleet.protocols.manifest import Manifest, read_manifest

APP = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in (APP / "protocols").glob("*/protocol.yml"))
# These need an input; the tests of their own give one.
NEED_AN_INPUT = {"table-summary"}
# Too large for every worker; the protocol says so where it is missing.
OPTIONAL_PACKAGES = {"ffmpeg"}
ON_A_SAMPLE = [name for name in NAMES if name not in NEED_AN_INPUT]

pytestmark = pytest.mark.r


def manifest_of(name: str) -> Manifest:
    return read_manifest((APP / "protocols" / name / "protocol.yml").read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_whole(name: str) -> None:
    folder = APP / "protocols" / name
    assert not check_tree(folder).problems
    manifest = manifest_of(name)
    assert manifest.name == name
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n")
    properties = manifest.parameters["properties"]
    for parameter, schema in properties.items():
        assert {"title", "description"} <= schema.keys(), parameter
        assert "default" in schema, f"{parameter}: a form without a default"
        assert f"`{parameter}`" in readme, f"the README tells nothing of {parameter}"
    for output in manifest.outputs.values():
        assert f"`{output.path}`" in readme, f"the README tells nothing of {output.path}"


def test_workers_have_what_they_need() -> None:
    defaults = yaml.safe_load((APP.parent / "roles/worker/defaults/main.yml").read_text())
    images = yaml.safe_load((APP.parent / "playbooks/vars/machine_images.yml").read_text())
    carried = {*images["machine_images_include"], *images["machine_images_archives"]}
    needed = {package for name in NAMES for package in manifest_of(name).needs.packages} - OPTIONAL_PACKAGES
    assert needed <= set(defaults["worker_packages"])
    assert needed <= carried


def test_copies_of_shared_files_are_the_same() -> None:
    spec = importlib.util.spec_from_file_location("copy_common", APP / "protocols-common" / "copy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [str(copy) for _, copy in module.differing()] == [], "run app/protocols-common/copy.py"


@pytest.mark.parametrize("name", ON_A_SAMPLE)
def test_it_shows_itself_on_its_sample(name: str, run_shipped: Callable[..., Any]) -> None:
    run = run_shipped(name)
    assert (run.code, run.error) == (0, "")
    outputs = manifest_of(name).outputs.values()
    left = {path.relative_to(run.outputs).as_posix() for path in run.outputs.rglob("*") if path.is_file()}
    assert {output.path for output in outputs if not output.optional} <= left
    assert left <= {output.path for output in outputs}
    shares = [share for share, _ in run.progress]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for output in outputs:
        if output.path.endswith(".png"):
            assert_picture((run.outputs / output.path).read_bytes())
    before = {path: path.read_bytes() for path in run.outputs.rglob("*") if path.is_file()}
    run_shipped(name)
    assert {path: path.read_bytes() for path in before} == before, "a second run gave something else"


def assert_picture(content: bytes) -> None:
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert 600 <= width <= 4000
    assert 400 <= height <= 6000
    assert len(content) > 10_000, "an empty canvas compresses to less"


NO_INPUTS = {
    "empty": (b"", 65, "The file is empty"),
    "binary": (b"\x89PNG\r\n\x00\x00", 65, "The file is binary"),
    "json": (b'{"a": [1, 2]}', 65, "The file looks like JSON or XML"),
    "uneven": (b"a,b,c\n1,2,3\n4,5\n", 1, "Line 3 has 2 fields"),
    "encoding": (b"a,b\n1,2\nM\xfcller,3\n", 1, "Line 3 is not UTF-8"),
    "quote": (b'a,b\n1,"2\n3,4\n', 1, "Line 2: a quoted field begins here"),
}


@pytest.mark.parametrize("kind", NO_INPUTS)
def test_it_says_what_is_no_table(kind: str, run_shipped: Callable[..., Any]) -> None:
    """One of the protocols that read tables; the others have the same file `table.R`."""
    content, code, reason = NO_INPUTS[kind]
    run = run_shipped("correlation", table=content)
    assert (run.code, run.reason[: len(reason)]) == (code, reason), run.error
    assert not any(run.outputs.iterdir())
