"""Lock files: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from labfleet.protocols.check import check_tree
from labfleet.protocols.lockfile import MAX_BYTES, MAX_PACKAGES, line_named, read_lock
from labfleet.protocols.problems import InvalidProtocol

H = f"sha256:{'a' * 64}"
G = f"sha256:{'b' * 64}"


def faults(text: str | bytes, name: str = "requirements.lock") -> list[tuple[int | None, str]]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidProtocol) as caught:
        read_lock(name, content)
    assert all(problem.file == name and problem.hint for problem in caught.value.problems)
    return [(problem.line, problem.message) for problem in caught.value.problems]


def test_as_uv_and_pip_compile_write_it() -> None:
    text = f"""# This file was made by a tool
numpy==2.1.0 ; python_full_version >= '3.11' \\
    --hash={H} \\
    --hash={G}
    # via pandas
pandas[excel]==2.2.3 --hash={G}  # wanted
Ruamel.YAML==0.18 --hash {H}
"""
    pins = read_lock("requirements.lock", text.encode())

    assert [(pin.name, pin.line) for pin in pins] == [("numpy", 2), ("pandas", 6), ("ruamel-yaml", 7)]
    assert str(pins[0]) == f'numpy==2.1.0; python_full_version >= "3.11" --hash={H} --hash={G}'
    assert str(pins[1]) == f"pandas[excel]==2.2.3 --hash={G}"
    assert pins[2].hashes == (H,)


def test_a_pylock() -> None:
    text = f"""lock-version = "1.0"
created-by = "uv"

[[packages]]
name = "click"
version = "8.1.0"
marker = "sys_platform == 'linux'"
sdist = {{ url = "https://example.org/click-8.1.0.tar.gz", hashes = {{ sha256 = "{"b" * 64}" }} }}
wheels = [{{ url = "https://x.org/click-8.1.0-py3-none-any.whl", hashes = {{ sha256 = "{"a" * 64}" }} }}]
"""
    (pin,) = read_lock("pylock.toml", text.encode())

    assert (pin.name, pin.line, pin.hashes) == ("click", 4, (H, G))
    assert pin.requirement == 'click==8.1.0; sys_platform == "linux"'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("numpy", "no exact version"),
        (f"numpy>=2 --hash={H}", "no exact version"),
        (f"numpy==2.* --hash={H}", "no exact version"),
        (f"numpy===2 --hash={H}", "no exact version"),
        (f"numpy==2,!=2.1 --hash={H}", "no exact version"),
        ("numpy==2.1", "no hash"),
        ("numpy==2.1 --hash=md5:0123", "is no hash"),
        ("numpy==2.1 --hash=sha256:xyz", "is no hash"),
        (f"numpy==2.1 --hash=sha256:{'G' * 64}", "is no hash"),
        (f"numpy @ https://example.org/numpy.whl --hash={H}", "from an address"),
        ("git+https://example.org/x.git", "no requirement"),
        (f"numpy==2.1 --index-url=http://x --hash={H}", "no requirement"),
        ("./wheels/numpy.whl", "no requirement"),
        ("-e .", "'-e'"),
        ("-r other.txt", "'-r'"),
        ("--index-url=https://example.org", "'--index-url'"),
        ("--extra-index-url https://example.org", "'--extra-index-url'"),
    ],
)
def test_a_line_that_is_refused(line: str, words: str) -> None:
    ((number, message),) = faults(f"# first\ngood==1.0 --hash={H}\n\n{line}\n")

    assert number == 4
    assert words in message


def test_every_fault_is_told() -> None:
    assert [line for line, _ in faults("numpy\n\npandas\n")] == [1, 3]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "names no package"),
        (b"# nothing\n", None, "names no package"),
        (b"numpy==1\nbad\xff\n", 2, "UTF-8"),
        (b" " * (MAX_BYTES + 1), None, "at most"),
        ("".join(f"p{i}==1 --hash={H}\n" for i in range(MAX_PACKAGES + 1)).encode(), None, "at most"),
    ],
    ids=["empty", "comment", "encoding", "large", "many"],
)
def test_a_file_that_is_refused(content: bytes, line: int | None, words: str) -> None:
    ((number, message),) = faults(content)
    assert number == line
    assert words in message


WHEEL = f"""version = "1"
wheels = [{{ url = "https://x.org/click-1-py3-none-any.whl", hashes = {{ %s = "{"a" * 64}" }} }}]
"""
PACKAGE = 'lock-version = "1.0"\ncreated-by = "uv"\n[[packages]]\nname = "click"\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = [\n", None, "no TOML"),
        ("x = 1 2\n", 1, "no TOML"),
        ('lock-version = "7.0"\ncreated-by = "uv"\npackages = []\n', None, "no pylock"),
        (PACKAGE + 'version = "1"\n', 3, "no pylock"),
        (PACKAGE + 'directory = { path = "." }\n', 3, "not from an index"),
        (f"{PACKAGE}{WHEEL % 'md5'}", 3, "no hash"),
        (f"{PACKAGE}marker = \"'x' in extras\"\n{WHEEL % 'sha256'}", 3, "an extra"),
    ],
)
def test_a_pylock_that_is_refused(text: str, line: int | None, words: str) -> None:
    ((number, message),) = faults(text, "pylock.toml")
    assert number == line
    assert words in message


def test_which_package_a_message_is_about() -> None:
    pins = read_lock(
        "x.lock", f"numpy==1 --hash={H}\nnumpy-financial==1 --hash={H}\nmy-lib==2 --hash={H}\n".encode()
    )

    def told(words: str) -> str | None:
        pin = line_named(pins, words)
        return pin and pin.name

    assert told("Hash mismatch for `numpy==1`") == "numpy"
    assert told("there is no version of numpy-financial==1 and you require it") == "numpy-financial"
    assert told("Failed to read my_lib-2.whl") is None
    assert told("because My.Lib was not found") == "my-lib"
    assert told("pandas is broken") is None


def manifest(tree: Path, environment: str) -> None:
    with (tree / "protocol.yml").open("a") as file:
        file.write(f"environment: {environment}\n")


def told(tree: Path) -> list[tuple[str, str, int | None]]:
    return [(problem.file, problem.code, problem.line) for problem in check_tree(tree).problems]


def test_check_reads_the_lock_file(tree: Path) -> None:
    manifest(tree, "{python: requirements.lock, r: [survival, data.table]}")
    assert told(tree) == [("protocol.yml", "lock_missing", 9)]
    (tree / "requirements.lock").write_text(f"numpy==1 --hash={H}\npandas\n")
    assert told(tree) == [("requirements.lock", "invalid_lock", 2)]
    (tree / "requirements.lock").write_text(f"numpy==1 --hash={H}\n")
    assert told(tree) == []


def test_check_looks_for_the_wheels(tree: Path) -> None:
    (tree / "requirements.lock").write_text(f"numpy==1 --hash={H}\n")
    manifest(tree, "{python: requirements.lock, wheels: wheels}")
    assert told(tree) == [("protocol.yml", "wheels_missing", 9)]
    (tree / "wheels").mkdir()
    (tree / "wheels/numpy-1-py3-none-any.whl").write_bytes(b"")
    assert told(tree) == []


@pytest.mark.parametrize(
    "environment",
    [
        "{python: ../lock}",
        "{python: /etc/passwd}",
        "{wheels: wheels}",
        "{r: [../x]}",
        "{r: ['']}",
        "{conda: x}",
        "requirements.lock",
    ],
)
def test_a_manifest_that_is_refused(tree: Path, environment: str) -> None:
    (tree / "requirements.lock").write_text(f"numpy==1 --hash={H}\n")
    manifest(tree, environment)
    (problem,) = check_tree(tree).problems
    assert (problem.file, problem.line) == ("protocol.yml", 9)
    assert problem.message.startswith("environment")


def test_programs_may_come_from_the_environment(tree: Path) -> None:
    text = (tree / "protocol.yml").read_text()
    (tree / "requirements.lock").write_text(f"snakemake==1 --hash={H}\n")
    for command in ("[some-tool, --fast]", "[python3, -m, some_tool]"):
        (tree / "protocol.yml").write_text(text.replace("[python3, main.py]", command))
        assert [code for _, code, _ in told(tree)] == ["command_missing"]
        manifest(tree, "{python: requirements.lock}")
        assert told(tree) == []
