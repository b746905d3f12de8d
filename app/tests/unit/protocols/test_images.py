"""References of images, the documents that they are made of, and what a check says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from container_images import ARCHITECTURE, DOCKER, OCI, OS, entry, image, index, layer

from labfleet.jobs.needs import needs_of
from labfleet.protocols import images
from labfleet.protocols.check import check_tree
from labfleet.protocols.images import BadImage, ImageManifest, Index, Reference, WrongMachine
from labfleet.protocols.manifest import read_manifest

DIGEST = "ab" * 32
HERE = f"{OS}/{ARCHITECTURE}"


@pytest.mark.parametrize(
    ("text", "registry", "name"),
    [
        (f"registry.example.org/lab/tool@sha256:{DIGEST}", "registry.example.org", "lab/tool"),
        (f"registry.example.org:5000/tool:1.0@sha256:{DIGEST}", "registry.example.org:5000", "tool"),
        (f"localhost/a/b/c__d/e-f.g@sha256:{DIGEST}", "localhost", "a/b/c__d/e-f.g"),
        (f"127.0.0.1:5000/x@sha256:{DIGEST}", "127.0.0.1:5000", "x"),
        (f"docker.io/library/debian@sha256:{DIGEST}", "docker.io", "library/debian"),
    ],
)
def test_references(text: str, registry: str, name: str) -> None:
    reference = images.read_reference(text)
    assert reference == Reference(registry, name, DIGEST)
    assert str(reference) == f"{registry}/{name}@sha256:{DIGEST}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("registry.example.org/lab/tool:1.0", "not named by its digest. Find it by 'skopeo inspect"),
        ("debian", "not named by its digest"),
        ("debian:12", "not named by its digest"),
        (
            f"lab/tool@sha256:{DIGEST}",
            "'lab' is no registry; write it before the name, for example docker.io/lab/",
        ),
        (f"debian@sha256:{DIGEST}", "write registry.example.org/lab/tool@sha256:… with all 64 digits"),
        ("registry.example.org/lab/tool@sha256:abc", "with all 64 digits"),
        (f"registry.example.org/lab/tool@md5:{DIGEST}", "with all 64 digits"),
        (f"docker://registry.example.org/lab/tool@sha256:{DIGEST}", "with all 64 digits"),
        (f"registry.example.org/../tool@sha256:{DIGEST}", "with all 64 digits"),
        (f"registry.example.org/lab/tool@sha256:{DIGEST}\n", "with all 64 digits"),
        (f"registry.example.org/lab/tool --help@sha256:{DIGEST}", "with all 64 digits"),
        (f"-o.example.org/lab/tool@sha256:{DIGEST}", "with all 64 digits"),
    ],
)
def test_what_is_no_reference(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        images.read_reference(text)


@pytest.mark.parametrize(
    ("allowed", "within"),
    [
        ([], False),
        (["registry.example.org"], True),
        (["registry.example.org/lab"], True),
        (["registry.example.org/lab/tool"], False),
        (["registry.example.org/la"], False),
        (["example.org"], False),
        (["registry.example.org:5000", "registry.example.org/other"], False),
    ],
)
def test_allowed_registries(allowed: list[str], within: bool) -> None:
    assert Reference("registry.example.org", "lab/tool", DIGEST).within(allowed) is within


def test_documents() -> None:
    for kind in (OCI, DOCKER):
        one = image(layer(entry("a")), layer(entry("b")), kind=kind)
        found = images.read_document(one.document)
        assert isinstance(found, ImageManifest)
        assert {part.digest for part in (found.config, *found.layers)} == set(one.blobs)
        assert found.size == sum(part.size for part in found.layers)
        assert images.read_config(one.blobs[found.config.digest], HERE) == {}
    many = images.read_document(index((one, "m68k"), (one, ARCHITECTURE)).document)
    assert isinstance(many, Index)
    assert many.chosen(HERE).digest == one.digest
    with pytest.raises(WrongMachine, match=rf"It is for {HERE}, {OS}/m68k; this worker is {OS}/vax"):
        many.chosen(f"{OS}/vax")


def test_what_is_said_of_variables() -> None:
    one = image(env=("A=b=c", "EMPTY=", "NO", "BAD NAME=x", "=x", "NUL=\0", "LD_PRELOAD=x"))
    found = images.read_document(one.document)
    assert isinstance(found, ImageManifest)
    told = images.read_config(one.blobs[found.config.digest], HERE)
    assert told == {"A": "b=c", "EMPTY": "", "NO": "", "LD_PRELOAD": "x"}


def document(**changes: Any) -> bytes:
    return json.dumps({**json.loads(image(layer(entry("a"))).document), **changes}).encode()


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
PART = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{DIGEST}", "size": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "not what it should be"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "a format that is not known"),
        (b" " * (images.MAX_DOCUMENT_BYTES + 1), "larger than"),
        (document(layers="x"), "not what it should be"),
        (document(layers=[{**PART, "size": -1}]), "not named by its SHA-256 and size"),
        (document(layers=[{**PART, "size": True}]), "not named by its SHA-256 and size"),
        (document(layers=[{**PART, "digest": "sha256:../../etc/passwd"}]), "not named by its SHA-256"),
        (document(layers=[{**PART, "digest": f"sha512:{DIGEST}"}]), "not named by its SHA-256"),
        (document(layers=[PART] * 501), "501 layers; 500 are taken"),
        (document(layers=[{**PART, "mediaType": f"{PART['mediaType']}+encrypted"}]), "can't be unpacked"),
        (
            document(layers=[{**PART, "mediaType": FOREIGN}]),
            "can't be unpacked",
        ),
        (document(config=None), "not what it should be"),
        (b'{"manifests": [{"digest": "x"}]}', "not named by its SHA-256"),
    ],
)
def test_documents_that_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadImage) as caught:
        images.read_document(content)
    assert words in str(caught.value)


def test_several_that_do_not_say_for_what() -> None:
    parts = [{"digest": f"sha256:{DIGEST}", "size": 1}] * 2
    found = images.read_document(json.dumps({"manifests": parts}).encode())
    assert isinstance(found, Index)
    with pytest.raises(BadImage, match="2 images and does not say"):
        found.chosen(HERE)


def ask(tree: Path, wanted: str, command: str = "") -> None:
    text = (tree / "protocol.yml").read_text()
    if command:
        lines = [line for line in text.splitlines() if not line.startswith("command:")]
        text = "\n".join([*lines, f"command: {command}", ""])
    (tree / "protocol.yml").write_text(f"{text}environment: {wanted}\n")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            "{image: 'registry.example.org/lab/tool:1.0'}",
            "environment.image: the image is not named by its digest",
        ),
        (f"{{image: 'registry.example.org/lab/tool@sha256:{DIGEST}', r: [a1]}}", "brings its own libraries"),
        (f"{{image: 'registry.example.org/lab/tool@sha256:{DIGEST}', python: a.lock}}", "brings its own"),
        ("{image: ../image.tar}", "environment.image: write a path inside the protocol"),
        ("{image: ''}", "environment.image: "),
        ("{image: [a]}", "environment.image: "),
    ],
)
def test_a_manifest_that_is_refused(tree: Path, wanted: str, words: str) -> None:
    ask(tree, wanted)
    (problem,) = check_tree(tree).problems
    assert problem.file == "protocol.yml"
    assert words in problem.message


def test_check_looks_at_an_archive(tree: Path) -> None:
    ask(tree, "{image: image.tar}")
    for content, code in (
        (None, "image_missing"),
        (b"no archive", "bad_image"),
        (layer(entry("manifest.json")), "bad_image"),
        (image(layer(entry("a"))).archive(), None),
    ):
        if content is not None:
            (tree / "image.tar").write_bytes(content)
        problems = check_tree(tree).problems
        assert [problem.code for problem in problems] == ([code] if code else [])
        assert all("skopeo copy" in (problem.hint or "") for problem in problems)


@pytest.mark.parametrize("command", ["[any-program, -x]", "[/opt/tool/bin/run]", "[python3, -m, tool]"])
@pytest.mark.parametrize("with_image", [True, False])
def test_a_program_may_come_from_the_image(tree: Path, command: str, with_image: bool) -> None:
    wanted = f"{{image: 'registry.example.org/lab/tool@sha256:{DIGEST}'}}" if with_image else "{r: []}"
    ask(tree, wanted, command)
    codes = [problem.code for problem in check_tree(tree).problems]
    assert codes == ([] if with_image else ["command_missing"])


@pytest.mark.parametrize("command", ["[./no-such.sh]", "[python3, no-such.py]"])
def test_files_of_the_protocol_must_be_there_all_the_same(tree: Path, command: str) -> None:
    ask(tree, f"{{image: 'registry.example.org/lab/tool@sha256:{DIGEST}'}}", command)
    (problem,) = check_tree(tree).problems
    assert problem.code == "command_missing"


def test_who_names_an_image_needs_a_worker_that_runs_them(manifest: str) -> None:
    wanted = f"environment: {{image: 'registry.example.org/lab/tool:1@sha256:{DIGEST}'}}\n"
    with_image, without = read_manifest(f"{manifest}{wanted}".encode()), read_manifest(manifest.encode())
    stored = with_image.stored()
    assert type(with_image).model_validate(stored) == with_image
    assert stored["environment"]["image"] == f"registry.example.org/lab/tool@sha256:{DIGEST}"
    assert needs_of(stored).tags == ("images",)
    assert needs_of(stored, {"tags": ["gpu"]}).tags == ("gpu", "images")
    assert needs_of(without.stored()).tags == ()
    other = read_manifest(f"{manifest}environment: {{r: [survival]}}\n".encode()).stored()
    assert "image" not in other["environment"]
