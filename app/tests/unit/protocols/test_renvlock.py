"""Lock files of R libraries: what is read, and each fault with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from r_index import r_package, record, renv_lock

from labfleet.protocols.check import check_tree
from labfleet.protocols.manifest import read_manifest
from labfleet.protocols.problems import InvalidProtocol
from labfleet.protocols.renvlock import MAX_BYTES, MAX_PACKAGES, Lock, read_lock

ALPHA, BETA = r_package("alpha", "1.0"), r_package("beta.b", "0.3-2", imports="alpha")
A, B = record(ALPHA), record(BETA)


def faults(text: str | bytes) -> list[tuple[int | None, str]]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvalidProtocol) as caught:
        read_lock("renv.lock", content)
    assert all(problem.file == "renv.lock" and problem.hint for problem in caught.value.problems)
    return [(problem.line, problem.message) for problem in caught.value.problems]


def without(about: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key not in keys}


def test_as_renv_writes_it() -> None:
    about = B | {"Requirements": ["R", "alpha", "methods", "stats"]}
    lock = read_lock("renv.lock", renv_lock(A, about, r="4.3.1").encode())

    assert isinstance(lock, Lock)
    assert lock.r == "4.3.1"
    first, second = lock.pins
    assert (first.name, first.version, first.file, first.line) == ("alpha", "1.0", "alpha_1.0.tar.gz", 7)
    assert (second.name, second.file, second.line) == ("beta.b", "beta.b_0.3-2.tar.gz", 15)
    assert second.sha256 == B["SHA256"]
    assert not second.local


def test_lines_do_not_depend_on_how_it_is_written() -> None:
    dense = json.dumps(json.loads(renv_lock(A, B)), indent=None)
    assert [pin.line for pin in read_lock("renv.lock", dense.encode()).pins] == [1, 1]
    text = renv_lock(A, B | {"Note": 'a "word": {\n[', "Imports": ["alpha"]})
    wide = text.replace("\n", "\n\n").replace(":", " :")
    assert [pin.line for pin in read_lock("renv.lock", wide.encode()).pins] == [13, 29]


@pytest.mark.parametrize("key", ["Requirements", "Imports", "Depends", "LinkingTo"])
def test_what_is_needed_must_be_locked(key: str) -> None:
    needs = ["R (>= 4.1)", "alpha (>= 1.0)", "utils", "gamma"]
    for value in (needs, ", ".join(needs)):
        ((line, message),) = faults(renv_lock(A, B | {key: value}))
        assert line == 15
        assert message == "beta.b needs gamma, which the lock file does not have."


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{\n  "R": {},\n  "Packages": {,}\n}', 3, "is no JSON: Expecting property name"),
        ("[]", 1, "no JSON object"),
        ("", 1, "is no JSON"),
        (b'{\n"R": "\xff"}', 2, "not UTF-8"),
        (b" " * (MAX_BYTES + 1), None, f"{MAX_BYTES} bytes"),
        ("[" * 100_000, None, "nested"),
        ('{\n  "R": {"Version": "4.2.2"}\n}', None, "names no package"),
        ('{\n  "R": {"Version": "4.2.2"},\n  "Packages": {}\n}', 3, "names no package"),
    ],
)
def test_no_lock_file_of_renv(text: str | bytes, line: int | None, words: str) -> None:
    ((number, message),) = faults(text)
    assert number == line
    assert words in message


@pytest.mark.parametrize(
    ("about", "line", "words"),
    [
        (without(B, "Package"), 15, "does not say its name"),
        (B | {"Package": "other"}, 15, "does not say its name"),
        (without(B, "Version"), 15, "beta.b has no version"),
        (B | {"Version": 3}, 17, "beta.b has no version"),
        (B | {"Version": "1.0/../x"}, 17, "beta.b has no version"),
        (without(B, "SHA256"), 15, "beta.b has no SHA256"),
        (B | {"SHA256": ""}, 15, "beta.b has no SHA256"),
        (B | {"SHA256": "d" * 32}, 21, "is no SHA-256"),
        (B | {"SHA256": ["x"]}, 21, "is no SHA-256"),
        (without(B, "Source"), 15, "does not say where it is from"),
        (B | {"Source": "GitHub"}, 18, "comes from 'GitHub'"),
        (B | {"Source": "URL"}, 18, "comes from 'URL'"),
    ],
)
def test_a_record_that_is_refused(about: dict[str, Any], line: int, words: str) -> None:
    packages = {"alpha": A, "beta.b": about}
    text = json.dumps({"R": {"Version": "4.2.2", "Repositories": []}, "Packages": packages}, indent=2)
    ((number, message),) = faults(text)
    assert number == line
    assert words in message


def test_a_name_that_is_none() -> None:
    text = json.dumps({"R": {"Version": "4.2.2"}, "Packages": {"../x": A | {"Package": "../x"}, "y": 3}})
    assert [message.partition(" does")[0] for _, message in faults(text)] == [
        "The record of '../x'",
        "The record of 'y'",
    ]


def test_what_to_do_with_another_source() -> None:
    with pytest.raises(InvalidProtocol) as caught:
        read_lock("renv.lock", renv_lock(A | {"Source": "GitHub", "RemoteRepo": "alpha"}).encode())
    for word in ("released version", "R CMD build", "tarballs", '"Source": "Local"'):
        assert word in caught.value.problems[0].hint


def test_every_fault_is_told_and_r_has_a_version() -> None:
    text = renv_lock(without(A, "SHA256"), B | {"SHA256": "x", "Source": "git"}, r="devel")
    told = faults(text)
    assert [line for line, _ in told] == [2, 7, 17, 20]
    assert "which version of R" in told[0][1]


def test_hashes_may_be_missing_before_they_are_made() -> None:
    text = renv_lock(without(A, "SHA256"), A | {"Package": "gamma", "SHA256": None, "Source": "Local"})
    first, second = read_lock("renv.lock", text.encode(), hashed=False).pins
    assert (first.sha256, second.sha256) == ("", "")
    assert second.local


def test_most_packages() -> None:
    many = {f"p{n}": A | {"Package": f"p{n}"} for n in range(MAX_PACKAGES + 1)}
    text = json.dumps({"R": {"Version": "4.2.2"}, "Packages": many})
    assert [message for _, message in faults(text)] == [
        f"A lock file may name {MAX_PACKAGES} packages at most."
    ]


def ask(tree: Path, environment: str) -> None:
    with (tree / "protocol.yml").open("a") as file:
        file.write(f"environment: {environment}\n")


def told(tree: Path) -> list[tuple[str, str, int | None]]:
    return [(problem.file, problem.code, problem.line) for problem in check_tree(tree).problems]


def test_check_reads_the_lock_file(tree: Path) -> None:
    ask(tree, "{r: renv.lock}")
    assert told(tree) == [("protocol.yml", "lock_missing", 9)]
    (tree / "renv.lock").write_text(renv_lock(A, without(B, "SHA256")))
    assert told(tree) == [("renv.lock", "invalid_lock", 15)]
    (tree / "renv.lock").write_text(renv_lock(A, B))
    assert told(tree) == []
    (tree / "renv.lock").unlink()
    (tree / "renv.lock").symlink_to("protocol.yml")
    assert told(tree) == [("protocol.yml", "lock_missing", 9)]


def test_check_looks_at_the_tarballs(tree: Path) -> None:
    (tree / "renv.lock").write_text(renv_lock(A, B | {"Source": "Local"}))
    ask(tree, "{r: renv.lock, tarballs: r-packages}")
    assert told(tree) == [
        ("protocol.yml", "tarballs_missing", 9),
        ("renv.lock", "tarballs_missing", 15),
    ]
    (tree / "r-packages").mkdir()
    (tree / "r-packages" / BETA[0]).write_bytes(BETA[1])
    assert told(tree) == []
    (tree / "r-packages" / ALPHA[0]).write_bytes(b"another")
    (problem,) = check_tree(tree).problems
    assert (problem.file, problem.line) == ("renv.lock", 7)
    assert "alpha: r-packages/alpha_1.0.tar.gz has another SHA-256: " in problem.message


def test_what_is_local_wants_a_directory(tree: Path) -> None:
    (tree / "renv.lock").write_text(renv_lock(A | {"Source": "Local"}))
    ask(tree, "{r: renv.lock}")
    (problem,) = check_tree(tree).problems
    assert "the manifest names no tarballs" in problem.message


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("{r: ../renv.lock}", "environment.r: write a path inside the protocol"),
        ("{r: ''}", "environment.r: "),
        ("{r: 3}", "environment.r: "),
        ("{r: {lock: renv.lock}}", "environment.r: "),
        ("{r: [survival, '../x']}", "environment.r.1: "),
        ("{tarballs: r-packages}", "environment: tarballs belong to a lock file"),
        ("{r: [survival], tarballs: r-packages}", "environment: tarballs belong to a lock file"),
        ("{r: renv.lock, tarballs: /srv}", "environment.tarballs: write a path inside the protocol"),
    ],
)
def test_a_manifest_that_is_refused(tree: Path, environment: str, words: str) -> None:
    (tree / "renv.lock").write_text(renv_lock(A))
    ask(tree, environment)
    (problem,) = check_tree(tree).problems
    assert (problem.file, problem.line) == ("protocol.yml", 9)
    assert problem.message.startswith(words)


def test_what_is_stored_is_read_again_and_older_releases_read_what_says_nothing_new(manifest: str) -> None:
    for environment in (
        "{r: renv.lock, tarballs: r}",
        "{r: renv.lock}",
        "{r: [survival]}",
        "{python: x.lock}",
    ):
        found = read_manifest(f"{manifest}environment: {environment}\n".encode())
        stored = found.stored()
        assert type(found).model_validate(stored) == found
        assert ("tarballs" in stored["environment"]) == ("tarballs" in environment)
