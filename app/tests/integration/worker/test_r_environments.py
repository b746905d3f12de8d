"""R libraries by a lock file: real attempts, a real sandbox, the machine's R, an index on the loopback."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from built import kept
from mail_server import certificate
from package_index import pin, wheel
from r_index import RIndex, r_package, record, renv_lock
from resident import wait_for

from labfleet.worker import rpackages

Start = Callable[..., Any]
LOCK = "renv.lock"
WANTED = {"r": LOCK}
ALPHA = r_package("alpha", "1.0")
NEWER = r_package("alpha", "2.0")
BETA = r_package("beta", "3.0", 'both <- function() paste("beta with", alpha::version())\n', imports="alpha")
SAYS = 'cat(alpha::version(), "\\n")'
COMPILED = r_package(
    "withc",
    "0.1-2",
    'answer <- function() .Call("answer", PACKAGE = "withc")\n',
    namespace="useDynLib(withc)\nexport(answer)",
    files={
        "src/answer.c": "#include <Rinternals.h>\nSEXP answer(void) { return Rf_ScalarInteger(40 + 2); }\n"
    },
)


@pytest.fixture(autouse=True)
def r() -> None:
    if lacking := [name for name in ("Rscript", "gcc", "make") if shutil.which(name) is None]:
        words = f"There is no {', '.join(lacking)}. Install it: apt-get install r-base-core gcc make"
        pytest.fail(words, pytrace=False)


@pytest.fixture
def index() -> Iterator[RIndex]:
    with served(RIndex(ALPHA, NEWER, BETA, COMPILED)) as server:
        server.old.add(ALPHA[0])
        yield server


class served:  # noqa: N801  (it reads as a verb)
    def __init__(self, server: RIndex) -> None:
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, args=(0.05,))

    def __enter__(self) -> RIndex:
        self.thread.start()
        return self.server

    def __exit__(self, *told: object) -> None:
        self.server.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def run(shepherd: Start, index: RIndex) -> Start:
    """`run(records, code, **attempt)`: an attempt of a protocol in R with a lock file of these records."""

    def start(
        records: list[dict[str, Any]] | str,
        code: str = SAYS,
        files: dict[str, Any] | None = None,
        **values: Any,
    ) -> Any:
        lock = records if isinstance(records, str) else renv_lock(*records, r=rpackages.r_version())
        values.setdefault("environment", WANTED)
        values.setdefault("command", ["Rscript", "main.R"])
        values["packages"] = {"r_index_urls": (index.url,), **values.get("packages", {})}
        return shepherd(files={"main.R": code, LOCK: lock, **(files or {})}, **values)

    return start


def line_of(lock: str, name: str) -> int:
    """Where the record of a package begins."""
    lines = lock.splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.strip() == f'"{name}": {{')


def test_a_library_is_built_and_told(run: Start, index: RIndex, work: Path) -> None:
    code = """
cat(beta::both(), "\\n")
cat(.libPaths(), sep = "\\n")
cat(tryCatch(writeLines("x", "/labfleet/library/new"), error = function(e) "may not write"), "\\n")
"""
    building = (0.0, "building the environment: 2 packages of renv.lock")
    index.hold.clear()  # a build that ends within a heartbeat would not be told
    # The one that needs the other stands first.
    attempt = run([record(BETA), record(ALPHA)], code)
    wait_for(lambda: building in attempt.attempt.progress)
    index.hold.set()

    said = attempt.wait(90)
    log = attempt.attempt.log.decode()
    assert said["outcome"] == "success", (said, log)
    lines = [line.strip() for line in log.splitlines()]
    for line in (
        "[labfleet] building the environment: 2 packages of renv.lock",
        "beta with alpha 1.0",
        "may not write",
    ):
        assert line in lines
    own = lines.index("/labfleet/library")
    assert lines[own + 1 : own + 2] == ["/usr/lib/R/library"]
    assert "/usr/lib/R/site-library" not in lines
    assert any("the environment is built" in line for line in lines)
    assert attempt.attempt.progress[-1] == (0.0, "")
    (directory,) = kept(work)
    told = said["environment"]
    assert told["R packages"] == "alpha 1.0, beta 3.0"
    assert told["R environment"] == directory.name
    assert sorted(path.name for path in (directory / "content").iterdir()) == ["alpha", "beta"]
    # The newest version lies where it always was, others in the archive.
    assert "/cran/src/contrib/Archive/alpha/alpha_1.0.tar.gz" in index.asked
    assert not [path for path in index.asked if "Archive/beta" in path]


def test_it_is_built_once_and_two_versions_run_side_by_side(run: Start, index: RIndex, work: Path) -> None:
    old, new = run([record(ALPHA)]), run([record(NEWER)])
    assert old.wait(90)["outcome"] == new.wait(90)["outcome"] == "success"
    assert b"alpha 1.0" in old.attempt.log
    assert b"alpha 2.0" in new.attempt.log
    assert len(kept(work)) == 2
    index.down = True

    again = run([record(ALPHA)], "cat(alpha::version(), 'again')")
    assert again.wait(60)["outcome"] == "success"
    assert b"alpha 1.0 again" in again.attempt.log
    assert b"building" not in again.attempt.log
    assert again.attempt.progress == []


def test_code_in_c_is_compiled(run: Start) -> None:
    attempt = run([record(COMPILED)], 'cat("the answer is", withc::answer())')

    said = attempt.wait(90)
    assert said["outcome"] == "success", (said, attempt.attempt.log)
    assert b"the answer is 42" in attempt.attempt.log
    assert said["environment"]["R packages"] == "withc 0.1-2"


def test_without_a_compiler_the_package_and_the_worker_are_named(run: Start, work: Path) -> None:
    lock = renv_lock(record(ALPHA), record(COMPILED))
    # As on a machine that has no program where sandboxes look for them.
    bare = "from labfleet.worker import sandbox; sandbox.PATH = '/labfleet/bin'"
    said = run(lock, before=bare).wait(60)

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    place = f"{LOCK}:{line_of(lock, 'withc')}: withc 0.1-2 has to be compiled"
    for word in (place, "worker1 lacks gcc, make", "r-base-dev", "worker_packages"):
        assert word in said["message"]
    assert kept(work) == []


WRONG = "0" * 64
NOT_AN_R_PACKAGE = ("alpha_3.0.tar.gz", b"not a tarball")
OTHER = ("alpha_4.0.tar.gz", NEWER[1])
LONELY = r_package("lonely", "1.0", imports="nobody")
HERE = r_package("here", "1.0", imports="there")
THERE = r_package("there", "1.0", imports="here")


@pytest.mark.parametrize(
    ("files", "records", "name", "words"),
    [
        ([], [record(ALPHA, SHA256=WRONG)], "alpha", ["alpha 1.0 has another SHA-256", "Archive/alpha/"]),
        ([], [record(ALPHA), record(BETA, Version="9.0")], "beta", ["beta_9.0.tar.gz) is not in http://"]),
        ([NOT_AN_R_PACKAGE], [record(NOT_AN_R_PACKAGE)], "alpha", ["alpha_3.0.tar.gz is no tar.gz"]),
        ([OTHER], [record(OTHER)], "alpha", ["is not alpha 4.0: its DESCRIPTION says alpha 2.0"]),
        ([], [record(BETA)], "beta", ["beta 3.0 needs alpha, which the lock file does not have"]),
        ([LONELY], [record(LONELY)], "lonely", ["lonely 1.0 needs nobody"]),
        ([], [record(ALPHA, SHA256="")], "alpha", ["alpha has no SHA256"]),
        ([], [record(ALPHA, Source="GitHub")], None, ["comes from 'GitHub'"]),
    ],
)
def test_a_lock_that_cannot_be_had_is_the_users_failure(
    run: Start,
    index: RIndex,
    work: Path,
    files: list[tuple[str, bytes]],
    records: list[dict[str, Any]],
    name: str | None,
    words: list[str],
) -> None:
    index.files |= dict(files)
    lock = renv_lock(*records)
    said = run(lock).wait(60)

    assert (said["outcome"], said["failure"]) == ("failed", "user")
    place = f"{LOCK}:{line_of(lock, name)}: " if name else f"{LOCK}:"
    for word in (place, *words):
        assert word in said["message"]
    assert kept(work) == []


def test_packages_that_need_each_other(run: Start, index: RIndex) -> None:
    index.files |= dict([HERE, THERE])
    said = run([record(HERE), record(THERE)]).wait(60)
    assert said["failure"] == "user"
    assert "need each other" in said["message"]


BROKEN = r_package("broken", "1.0", "f <- function( {\n")
REFUSES = r_package("refuses", "1.0", '.onLoad <- function(libname, pkgname) stop("no licence here")\n')
UNCONFIGURED = r_package(
    "unconfigured", "1.0", files={"configure": "#!/bin/sh\necho 'libfoo is missing'\nexit 1\n"}
)
HEADERLESS = r_package("headerless", "1.0", files={"src/a.c": "#include <nosuch.h>\n"})
FUTURE = r_package("future", "1.0", needs="R (>= 99.0)")


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (BROKEN, ["broken 1.0 can't be installed: Error in parse", "unexpected '{'"]),
        (REFUSES, ["refuses does not load", "no licence here"]),
        (UNCONFIGURED, ["unconfigured 1.0 can't be installed", "libfoo is missing"]),
        (HEADERLESS, ["headerless 1.0 can't be installed", "nosuch.h: No such file or directory"]),
        (FUTURE, ["future 1.0 can't be installed", "requires R >= 99.0"]),
    ],
    ids=lambda value: value[0].partition("_")[0] if isinstance(value, tuple) else "",
)
def test_a_package_that_does_not_install_or_load(
    run: Start, index: RIndex, work: Path, package: tuple[str, bytes], words: list[str]
) -> None:
    index.files |= dict([package])
    lock = renv_lock(record(ALPHA), record(package))
    attempt = run(lock)

    said = attempt.wait(90)
    assert (said["outcome"], said["failure"]) == ("failed", "user")
    name = package[0].partition("_")[0]
    for word in (f"{LOCK}:{line_of(lock, name)}: ", *words):
        assert word in said["message"]
    assert "alpha" not in said["message"]
    assert kept(work) == []


def test_a_lock_of_another_r_is_told_and_taken(run: Start) -> None:
    for _ in ("building it", "with what was built"):
        attempt = run(renv_lock(record(ALPHA), r="3.6.1"))
        assert attempt.wait(60)["outcome"] == "success"
        words = f"[labfleet] renv.lock was made with R 3.6.1; this worker has R {rpackages.r_version()}"
        assert words in attempt.attempt.log.decode().splitlines()
    same = run([record(ALPHA)])
    assert same.wait(60)["outcome"] == "success"
    assert b"was made with" not in same.attempt.log


def test_an_index_that_is_away_is_our_failure(run: Start, index: RIndex, work: Path) -> None:
    nobody = run([record(ALPHA)], packages={"r_index_urls": ("http://127.0.0.1:1/cran",)})
    index.down = True
    ill = run([record(NEWER)])
    for ending in (nobody.wait(90), ill.wait(90)):
        assert (ending["outcome"], ending["failure"]) == ("failed", "system")
        assert "did not answer" in ending["message"]
        assert "worker_r_index_urls" in ending["message"]
    assert "HTTP status 503" in ill.attempt.finish["message"]
    index.down, index.broken = False, True
    cut = run([record(NEWER)]).wait(90)
    assert cut["failure"] == "system"
    assert "it broke off" in cut["message"] or "IncompleteRead" in cut["message"]
    assert kept(work) == []


def test_the_second_index_is_asked_for_what_the_first_lacks(run: Start, index: RIndex) -> None:
    with served(RIndex(BETA)) as second:
        del index.files[BETA[0]]
        urls = (index.url, second.url)
        attempt = run([record(ALPHA), record(BETA)], "cat(beta::both())", packages={"r_index_urls": urls})
        assert attempt.wait(90)["outcome"] == "success"
    assert b"beta with alpha 1.0" in attempt.attempt.log
    assert not [path for path in second.asked if "alpha" in path]


def test_an_index_by_https_with_an_authority_of_its_own(run: Start, tmp_path: Path, work: Path) -> None:
    context, trusted = certificate(tmp_path)
    readable = work / "ca.crt"
    readable.write_bytes(trusted.read_bytes())
    with served(RIndex(ALPHA, tls=context)) as secure:
        untrusted = run([record(ALPHA)], packages={"r_index_urls": (secure.url,)}).wait(90)
        packages = {"r_index_urls": (secure.url,), "r_ca_file": str(readable)}
        said = run([record(ALPHA)], packages=packages).wait(90)
    assert said["outcome"] == "success", said
    assert untrusted["failure"] == "system"
    assert "certificate" in untrusted["message"]


def test_tarballs_of_the_protocol_need_no_index(run: Start, index: RIndex) -> None:
    files = {f"r-packages/{name}": content for name, content in (ALPHA, BETA)}
    environment = {"r": LOCK, "tarballs": "r-packages"}
    records = [record(ALPHA, Source="Local"), record(BETA)]

    offline = run(records, files=files, environment=environment, packages={"r_index_urls": ()})
    assert offline.wait(60)["outcome"] == "success", offline.attempt.log
    assert b"alpha_1.0.tar.gz: of the protocol" in offline.attempt.log
    with_index = run([record(BETA), record(ALPHA)], files=files, environment=environment)
    assert with_index.wait(60)["outcome"] == "success"
    assert index.asked == []

    files = {f"r-packages/{ALPHA[0]}": ALPHA[1]}
    mixed = run([record(ALPHA), record(BETA), record(COMPILED)], files=files, environment=environment)
    assert mixed.wait(90)["outcome"] == "success"
    assert {path.rpartition("/")[2] for path in index.asked} == {BETA[0], COMPILED[0]}


def test_without_an_index_the_message_says_so(run: Start) -> None:
    said = run([record(ALPHA)], packages={"r_index_urls": ()}).wait(60)
    assert said["failure"] == "user"
    assert "this worker has no index" in said["message"]


def test_a_killed_build_leaves_nothing_half_made(run: Start, index: RIndex, work: Path) -> None:
    slow = r_package("slow", "1.0", "Sys.sleep(60)\n")
    index.files |= dict([slow])
    attempt = run([record(ALPHA), record(slow)])
    wait_for(lambda: list((work / "environments").glob("*/content/alpha/DESCRIPTION")))
    wait_for(
        lambda: b"installing *source* package \xe2\x80\x98slow" in (attempt.directory / "log").read_bytes()
    )
    attempt.process.kill()
    attempt.process.wait()

    stopped = run([record(ALPHA), record(slow)])
    wait_for(lambda: b"installing *source* package \xe2\x80\x98slow" in stopped.attempt.log)
    stopped.terminate()
    assert stopped.wait(60)["outcome"] == "stopped"
    assert kept(work) == []


def test_a_build_has_its_own_time_and_size(run: Start, index: RIndex, work: Path) -> None:
    large = r_package("large", "1.0", files={"inst/data": "".join(f"{n * n}\n" for n in range(400_000))})
    index.files |= dict([large])
    said = run([record(large)], packages={"environment_bytes": 1024**2}).wait(60)
    assert said["failure"] == "user", said
    assert "larger than 1 MiB" in said["message"]

    index.hold.clear()
    said = run([record(ALPHA)], packages={"build_seconds": 1}).wait(60)
    assert said["failure"] == "system"
    assert "longer than 1 s" in said["message"]
    assert kept(work) == []


def test_what_a_package_sees_while_it_is_installed(run: Start, index: RIndex, work: Path) -> None:
    secret = ["/root", "/home", "/var/lib", "/run", "/opt", "/etc/labfleet", "/etc/shadow", str(work)]
    code = f"""seen <- list(
    names = sort(list.files("/labfleet")),
    files = Filter(file.exists, c({", ".join(f'"{path}"' for path in secret)})),
    net = tryCatch({{ socketConnection(port = {index.server_address[1]}, timeout = 2); "open" }},
                   error = function(e) "closed", warning = function(w) "closed"),
    mine = tryCatch({{ writeLines("x", "/labfleet/library/.downloads/x"); "writable" }},
                    error = function(e) "closed", warning = function(w) "closed"),
    environment = names(Sys.getenv()))
"""
    nosy = r_package("nosy", "1.0", code)
    index.files |= dict([nosy])
    show = 'for (name in names(nosy::seen)) cat(name, ":", nosy::seen[[name]], "\\n")'
    attempt = run([record(nosy)], show)

    assert attempt.wait(90)["outcome"] == "success", attempt.attempt.log
    lines = (line.partition(":") for line in attempt.attempt.log.decode().splitlines())
    told = {name.strip(): value.split() for name, _, value in lines}
    assert told["names"] == ["library", "protocol"]
    assert told["files"] == []
    assert told["net"] == told["mine"] == ["closed"]
    assert not [name for name in told["environment"] if "LABFLEET" in name or "CREDENTIALS" in name]


def test_python_and_r_side_by_side(run: Start, work: Path) -> None:
    library = wheel("alpha-lib", "1.0")
    files = {
        "requirements.lock": pin(library),
        f"wheels/{library[0]}": library[1],
        "both.sh": "python3 -c 'import alpha_lib; print(alpha_lib.VERSION)'\n"
        "Rscript -e 'cat(alpha::version())'\n",
    }
    environment = {"python": "requirements.lock", "wheels": "wheels", "r": LOCK}
    packages = {"index_url": ""}
    command = ["sh", "both.sh"]
    attempt = run([record(ALPHA)], files=files, environment=environment, packages=packages, command=command)

    said = attempt.wait(90)
    assert said["outcome"] == "success", (said, attempt.attempt.log)
    assert b"1.0\nalpha 1.0" in attempt.attempt.log
    assert len(kept(work)) == 2
    told = said["environment"]
    assert (told["Python packages"], told["R packages"]) == ("alpha-lib 1.0", "alpha 1.0")
