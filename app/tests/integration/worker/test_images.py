"""Container images: real attempts, a real sandbox, skopeo, a registry of Debian's on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import escapes
import pytest
from built import kept
from container_images import (
    ARCHITECTURE,
    DOCKER,
    Image,
    busybox,
    device,
    entry,
    image,
    index,
    layer,
    python,
    symlink,
)
from image_registry import Registry, registry
from resident import wait_for

from labfleet.worker import sandbox

Start = Callable[..., Any]
SAYS = "cat /opt/says\n"
OTHER = "s390x" if ARCHITECTURE != "s390x" else "amd64"


def saying(text: str, *, env: tuple[str, ...] = (), **values: Any) -> Image:
    """An image with a shell, and one layer more that says something."""
    return image(busybox(), layer(entry("opt/says", f"{text}\n")), env=env, **values)


@pytest.fixture(autouse=True)
def static_busybox() -> None:
    if not Path(sandbox.BUSYBOX).exists():
        words = f"There is no {sandbox.BUSYBOX}. Install it: apt-get install busybox-static"
        pytest.fail(words, pytrace=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "open") as opened:
        opened.ca_file.chmod(0o644)
        yield opened


@pytest.fixture
def ca_file(store: Registry, work: Path) -> Path:
    return Path(shutil.copy(store.ca_file, work / "ca.crt"))


@pytest.fixture
def run(shepherd: Start, store: Registry, ca_file: Path) -> Start:
    """`run(reference, script, **attempt)`: an attempt of a shell script in an image."""

    def start(wanted: str, script: str = SAYS, files: dict[str, Any] | None = None, **values: Any) -> Any:
        values.setdefault("command", ["sh", "main.sh"])
        values["images"] = {
            "enabled": True,
            "registries": (store.host,),
            "ca_file": str(ca_file),
            **values.get("images", {}),
        }
        return shepherd(files={"main.sh": script, **(files or {})}, environment={"image": wanted}, **values)

    return start


def test_a_program_of_an_image_runs(run: Start, store: Registry, work: Path) -> None:
    wanted = saying(
        "hello from the image", env=("PATH=/opt/bin:/bin", "LANG=de", "GREETING=hi", "HOME=/root")
    )
    reference = store.push(wanted)
    script = f"""{SAYS}
echo "$GREETING $PATH $LANG $HOME $PWD $LABFLEET_OUTPUTS"
cat "$LABFLEET_INPUTS/table" "$LABFLEET_PARAMETERS"
echo
id
echo "0.5 half" >> "$LABFLEET_PROGRESS"
echo done > "$LABFLEET_OUTPUTS/result.txt"
(echo x > /opt/new) 2>&1
ls -d /usr/bin/python3 /lib64 2>/dev/null
exit 0
"""
    attempt = run(
        reference,
        script,
        inputs={"table": b"of the input\n"},
        parameters={"a": 1},
        outputs={"result": {"path": "result.txt", "kind": "text", "optional": False}},
    )
    said = attempt.wait(60)
    log = attempt.attempt.log.decode()
    assert said["outcome"] == "success", (said, log)
    lines = log.splitlines()
    name = f"{reference[: -64 + 12]}…"
    for line in (
        f"[labfleet] preparing the image: {name}",
        "hello from the image",
        "hi /opt/bin:/bin de /tmp /labfleet/protocol /labfleet/outputs",
        "of the input",
        json.dumps({"a": 1}),
        "uid=1000(scientist) gid=1000(scientist)",
    ):
        assert line in lines
    assert any("Read-only file system" in line for line in lines)
    assert any(line.startswith("[labfleet] the image is ready: ") for line in lines)
    assert "python3" not in log
    assert attempt.attempt.artifacts == {"result.txt": b"done\n"}
    told = said["environment"]
    assert told["Container image"] == reference
    assert told["Container image digest"] == f"sha256:{wanted.digest}"
    (kept_one,) = kept(work)
    assert sorted(path.name for path in (kept_one / "content").iterdir()) == ["root"]


def test_it_is_fetched_once_and_shared(run: Start, work: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "leaving") as leaving:
        reference = leaving.push(saying("kept"))
        own = Path(shutil.copy(leaving.ca_file, work / "leaving.crt"))
        values = {"images": {"registries": (leaving.host,), "ca_file": str(own)}}
        both = [run(reference, **values) for _ in range(2)]
        for each in both:
            assert each.wait(60)["outcome"] == "success", each.attempt.log
    again = run(reference, "cat /opt/says; echo again", **values)
    assert again.wait(60)["outcome"] == "success"
    assert again.attempt.log == b"kept\nagain\n"
    assert again.attempt.progress == []
    assert len(kept(work)) == 1
    assert sum(b"the image is ready" in each.attempt.log for each in both) == 1


def test_a_registry_that_is_away_is_our_failure(run: Start, work: Path) -> None:
    reference = f"127.0.0.1:1/lab/tool@sha256:{'0' * 64}"
    said = run(reference, images={"registries": ("127.0.0.1:1",)}).wait(60)
    assert (said["outcome"], said["failure"]) == ("failed", "system")
    for words in ("127.0.0.1:1 did not answer", "connection refused", "worker_image_folder"):
        assert words in said["message"]
    assert kept(work) == []


def test_a_registry_whose_certificate_nobody_vouches_for(run: Start, store: Registry) -> None:
    said = run(store.push(saying("trusted?")), images={"ca_file": None}).wait(60)
    assert said["failure"] == "system"
    assert "x509" in said["message"]


def test_what_the_registry_does_not_have(run: Start, store: Registry, work: Path) -> None:
    store.push(saying("there"))
    for name in ("lab/tool", "lab/nosuch"):
        said = run(f"{store.host}/{name}@sha256:{'1' * 64}").wait(60)
        assert (said["outcome"], said["failure"]) == ("failed", "user")
        assert f"has no image {name} with the digest sha256:{'1' * 64}" in said["message"]
        assert "skopeo inspect" in said["message"]
    assert kept(work) == []


def test_only_registries_that_are_allowed(run: Start, store: Registry) -> None:
    reference = store.push(saying("forbidden"))
    for allowed in ((), ("registry.example.org",), (f"{store.host}/other",), (f"{store.host}/la",)):
        said = run(reference, images={"registries": allowed}).wait(60)
        assert said["failure"] == "user"
        for words in (store.host, "is not asked here", "worker_image_registries"):
            assert words in said["message"]
    part = run(reference, images={"registries": (f"{store.host}/lab",)})
    assert part.wait(60)["outcome"] == "success"


def test_a_worker_without_images(run: Start, store: Registry) -> None:
    said = run(f"{store.host}/lab/tool@sha256:{'1' * 64}", images={"enabled": False}).wait(60)
    assert said["failure"] == "system"
    assert "The worker worker1 runs no container images (worker_images)" in said["message"]


def test_a_private_registry(run: Start, work: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "private", login=True) as private:
        reference = private.push(saying("private"))
        own = Path(shutil.copy(private.ca_file, work / "private.crt"))
        values = {"images": {"registries": (private.host,), "ca_file": str(own)}}
        said = run(reference, **values).wait(60)
        assert said["failure"] == "user"
        assert "does not give the image lab/tool" in said["message"]
        assert "worker_image_registry_auth" in said["message"]

        opened = run(
            reference,
            f"{SAYS}\ncat /labfleet/*.json 2>&1; ls -a / /labfleet /tmp; env; exit 0",
            **values,
            registries=private.auth,
        )
        assert opened.wait(60)["outcome"] == "success", opened.attempt.log
        assert b"private" in opened.attempt.log
        secret = json.loads(private.auth)["auths"][private.host]["auth"].encode()
        assert secret not in opened.attempt.log
        assert not (opened.directory / "registries.json").exists()


@pytest.mark.parametrize("kind", ["index", "docker", "zstd", "plain"])
def test_whatever_form_an_image_has(run: Start, store: Registry, kind: str) -> None:
    text = f"as {kind}"
    forms: dict[str, Callable[[], Image]] = {
        "index": lambda: index((saying("wrong"), OTHER), (saying(text), ARCHITECTURE)),
        "docker": lambda: saying(text, kind=DOCKER),
        "zstd": lambda: saying(text, packed="zstd"),
        "plain": lambda: saying(text, packed=""),
    }
    attempt = run(store.push(forms[kind](), f"lab/{kind}"))
    assert attempt.wait(60)["outcome"] == "success", (attempt.attempt.finish, attempt.attempt.log)
    assert attempt.attempt.log.splitlines()[-1] == text.encode()


def test_an_image_for_another_machine(run: Start, store: Registry, work: Path) -> None:
    one = saying("other", machine=("linux", OTHER))
    many = index((one, OTHER))
    for wanted, name in ((one, "lab/one"), (many, "lab/many")):
        said = run(store.push(wanted, name)).wait(60)
        assert (said["outcome"], said["failure"]) == ("failed", "user")
        assert f"It is for linux/{OTHER}; this worker is linux/{ARCHITECTURE}" in said["message"]
    assert kept(work) == []


def test_an_image_that_is_too_large(run: Start, store: Registry, work: Path) -> None:
    packed = store.push(image(busybox(), layer(entry("big", os.urandom(3 * 1024**2)))), "lab/large")
    unpacked = store.push(image(busybox(), layer(entry("big", bytes(50 * 1024**2)))), "lab/bomb")
    for reference in (packed, unpacked):
        said = run(reference, images={"max_bytes": 2 * 1024**2 if reference == packed else 8 * 1024**2}).wait(
            60
        )
        assert (said["outcome"], said["failure"]) == ("failed", "user"), said
        assert "The image is larger than" in said["message"]
        assert "worker_image_bytes" in said["message"]
    assert kept(work) == []


def test_a_folder_of_the_site_needs_no_registry(run: Start, work: Path) -> None:
    folder = work / "images"
    wanted = index((saying("wrong"), OTHER), (saying("from the folder"), ARCHITECTURE))
    wanted.save(folder / wanted.digest)
    values = {"images": {"registries": (), "folder": str(folder)}}
    reference = f"registry.example.org/lab/tool@sha256:{wanted.digest}"

    attempt = run(reference, **values)
    assert attempt.wait(60)["outcome"] == "success", attempt.attempt.finish
    assert b"from the folder" in attempt.attempt.log

    false = saying("another")
    false.save(folder / ("2" * 64))
    said = run(f"registry.example.org/lab/tool@sha256:{'2' * 64}", **values).wait(60)
    assert said["failure"] == "user"
    assert f"lacks the part sha256:{'2' * 64}, or has it damaged" in said["message"]


def test_a_folder_with_a_layer_that_was_changed(run: Start, work: Path) -> None:
    wanted = saying("changed")
    place = wanted.save(work / "images" / wanted.digest)
    layers = [item["digest"].removeprefix("sha256:") for item in json.loads(wanted.document)["layers"]]
    (place / layers[1]).write_bytes(saying("worse").blobs[sorted(saying("worse").blobs)[0]])
    values = {"images": {"registries": (), "folder": str(work / "images")}}
    said = run(f"registry.example.org/lab/tool@sha256:{wanted.digest}", **values).wait(60)
    assert said["failure"] == "user"
    assert "layer 2 of 2: It has another SHA-256" in said["message"]
    (place / layers[1]).unlink()
    said = run(f"registry.example.org/lab/tool@sha256:{wanted.digest}", **values).wait(60)
    assert f"It lacks the layer sha256:{layers[1]}" in said["message"]


def test_an_archive_in_the_protocol(run: Start, work: Path) -> None:
    wanted = saying("from the archive")
    values: dict[str, Any] = {"images": {"registries": ()}}
    attempt = run("images/tool.tar", files={"images/tool.tar": wanted.archive()}, **values)
    said = attempt.wait(60)
    assert said["outcome"] == "success", said
    assert b"from the archive" in attempt.attempt.log
    assert said["environment"]["Container image"] == "images/tool.tar"
    assert said["environment"]["Container image digest"] == f"sha256:{wanted.digest}"
    again = run("other.tar", files={"other.tar": wanted.archive()}, **values)
    assert again.wait(60)["outcome"] == "success"
    assert b"preparing" not in again.attempt.log
    assert len(kept(work)) == 1

    for content, words in (
        (b"no archive", "the archive: It is damaged"),
        (layer(entry("a")), "no OCI archive"),
    ):
        said = run("bad.tar", files={"bad.tar": content}, **values).wait(60)
        assert said["failure"] == "user"
        assert words in said["message"]
    assert "has no archive gone.tar" in run("gone.tar", **values).wait(60)["message"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("../../escaped", "x")], "leads out of the image"),
        ([entry("x", type=b"1", linkname="../../etc/passwd")], "leads out of the image"),
        ([entry("x", type=b"1", linkname="/etc/hostname")], "no such file"),
    ],
)
def test_a_hostile_layer_is_refused(run: Start, work: Path, entries: list[Any], words: str) -> None:
    wanted = image(busybox(), layer(*entries))
    said = run("evil.tar", files={"evil.tar": wanted.archive()}).wait(60)
    assert (said["outcome"], said["failure"]) == ("failed", "user")
    assert "layer 2 of 2" in said["message"]
    assert words in said["message"]
    assert kept(work) == []


def test_a_hostile_layer_that_runs_finds_nothing(run: Start, work: Path) -> None:
    """Links, devices and modes that are not refused give nothing either."""
    (work / "secret").write_text("the secret of the worker")
    wanted = image(
        busybox(),
        layer(
            symlink("out", str(work)),
            symlink("labfleet", str(work)),
            symlink("etc", str(work)),
            symlink("proc", "/"),
            symlink("up", "../../../../../../.."),
            device("mem"),
            entry("bin/su", Path("/bin/busybox").read_bytes(), 0o6755),
        ),
        env=("LD_PRELOAD=/opt/evil.so", "LABFLEET_OUTPUTS=/elsewhere", "BAD NAME=x", "IFS=/"),
    )
    script = """
cat /out/secret /up/secret 2>&1
echo $LABFLEET_OUTPUTS
ls /mem 2>&1
stat -c %a /bin/su
/bin/su sh -c id
cat /proc/1/environ 2>&1 | grep -c TOKEN
ls /etc
exit 0
"""
    attempt = run("evil.tar", script, files={"evil.tar": wanted.archive()})
    assert attempt.wait(60)["outcome"] == "success", attempt.attempt.log
    log = attempt.attempt.log.decode()
    assert "the secret of the worker" not in log
    assert "1 devices, pipes or sockets of the image were left out" in log
    lines = log.splitlines()
    assert "/labfleet/outputs" in lines
    assert "755" in lines
    assert sorted(set(lines) & {"group", "hosts", "nsswitch.conf", "passwd"}) == sorted(sandbox.IDENTITY)


def test_a_program_that_the_image_does_not_have(run: Start) -> None:
    wanted = saying("x").archive()
    said = run("a.tar", files={"a.tar": wanted}, command=["no-such-program"]).wait(60)
    assert (said["outcome"], said["failure"], said["exit_code"]) == ("failed", "user", 127)
    assert "no-such-program" in said["message"]


def test_what_the_machine_shows_lies_in_the_image(run: Start) -> None:
    with tempfile.TemporaryDirectory(prefix="labfleet-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        folder = Path(name, "reference")
        folder.mkdir(mode=0o755)
        (folder / "genome").write_text("ACGT\n")
        # The image has files of its own on the way there, and something in its place.
        inside = name.lstrip("/")
        own = [
            entry("var/own", "of the image\n"),
            entry(f"{inside}/reference", "no"),
            symlink("var/a", "own"),
        ]
        script = (
            f"cat {folder}/genome; (echo x > {folder}/new) 2>&1; cat /var/a; (echo x > /var/new) 2>&1; exit 0"
        )
        shown = (str(folder), "/nowhere/at/all")
        wanted = image(busybox(), layer(*own)).archive()
        attempt = run("a.tar", script, files={"a.tar": wanted}, readonly=shown)
        assert attempt.wait(60)["outcome"] == "success", attempt.attempt.log
    log = attempt.attempt.log.decode()
    assert "ACGT\n" in log
    assert "of the image\n" in log
    assert log.count("Read-only file system") == 2


@pytest.fixture(scope="module")
def with_python() -> Image:
    return image(python(), packed="")


@pytest.fixture
def in_python(shepherd: Start, with_python: Image, work: Path) -> Start:
    """Attempts in Python whose interpreter comes from an image."""
    with_python.save(work / "images" / with_python.digest)
    reference = f"registry.example.org/lab/python@sha256:{with_python.digest}"

    def start(code: str, **values: Any) -> Any:
        known = {"enabled": True, "folder": str(work / "images")}
        return shepherd(code, environment={"image": reference}, images=known, **values)

    return start


def test_no_escape_works_that_did_not_work_before(in_python: Start) -> None:
    # Of the image: no program of the machine is there.
    (root,) = escapes.findings(
        in_python, 'probe("root", lambda: sorted(os.listdir("/")))', outputs={}
    ).values()
    tops = ["bin", "dev", "etc", "labfleet", "lib", "lib64", "proc", "tmp", "usr"]
    assert set(json.loads(root.replace("'", '"'))) <= {*tops}
    escapes.require_hidden(escapes.findings(in_python, escapes.LOOKS, outputs={}))
    escapes.require_bounded(escapes.findings(in_python, escapes.GRABS, limits=escapes.LIMITS, outputs={}))


def test_limits_are_those_of_any_attempt(in_python: Start, shepherd: Start) -> None:
    code = """
import resource
for name in ("DATA", "AS", "NPROC", "FSIZE", "NOFILE", "CORE"):
    probe(name, lambda: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")))
"""
    inside = escapes.findings(in_python, code)
    assert inside["FSIZE"] == f"({20_000_000 // 512 * 512}, {20_000_000 // 512 * 512})"
    assert inside["NPROC"] == "(50, 50)"
    assert inside == escapes.findings(shepherd, code) | {"FSIZE": inside["FSIZE"]}


def test_a_name_means_the_program_of_the_image(run: Start) -> None:
    """And not one of what sets its limits, which has an `ls` as well."""
    own = layer(entry("opt/ls", '#!/bin/sh\necho "this ls is the image\'s own: $0 $*"\nenv\n', 0o755))
    wanted = image(busybox(), own, env=("PATH=/nowhere:/opt:/bin", "IFS=/")).archive()
    attempt = run("a.tar", files={"a.tar": wanted}, command=["ls", "-l", "a b"])
    assert attempt.wait(60)["outcome"] == "success", attempt.attempt.log
    lines = attempt.attempt.log.decode().splitlines()
    assert "this ls is the image's own: /opt/ls -l a b" in lines
    assert "PATH=/nowhere:/opt:/bin" in lines


def test_the_longest_unused_goes(run: Start, work: Path) -> None:
    first, second = saying("first").archive(), saying("second").archive()
    limit = {"packages": {"cache_bytes": 3 * 1024**2}}
    for content in (first, second):
        assert run("a.tar", files={"a.tar": content}, **limit).wait(60)["outcome"] == "success"
    assert len(kept(work)) == 1
    again = run("a.tar", files={"a.tar": second}, **limit)
    assert again.wait(60)["outcome"] == "success"
    assert b"preparing" not in again.attempt.log


def test_a_cancel_while_it_is_fetched(run: Start, store: Registry, work: Path) -> None:
    reference = store.push(image(busybox(), layer(entry("big", os.urandom(40 * 1024**2)))), "lab/slow")
    attempt = run(reference, before="import time; from labfleet.worker import layers")
    wait_for(lambda: attempt.attempt.progress)
    attempt.terminate()
    said = attempt.wait(60)
    assert said["outcome"] == "stopped"
    assert kept(work) == []
    assert not (attempt.directory / "registries.json").exists()
