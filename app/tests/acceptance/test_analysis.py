"""A scientist's real analysis through the real command line, and what its results look like."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .api import Api
from .conftest import Cli
from .waiting import wait_for

PROTOCOLS = Path(__file__).parents[2] / "protocols"
JOB = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
GRAPHML = "{http://graphml.graphdrawing.org/xmlns}"


def png_size(content: bytes) -> tuple[int, int]:
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


class TestDifferentialNetwork:
    @pytest.fixture(scope="class")
    @staticmethod
    def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
        return {"folder": tmp_path_factory.mktemp("results")}

    def test_runs_and_comes_back(self, signed_in: Cli, user: Api, tmp_path: Path) -> None:
        done = signed_in("submit", "differential-network", "--label", "Golub", "--watch")
        job = user.get(f"jobs/{JOB.search(done.stdout + done.stderr).group()}")  # type: ignore[union-attr]
        task = job["tasks"][0]
        self.passed_its_states(user, task)
        self.watched(done.stdout + done.stderr)
        signed_in("fetch", job["id"], "-o", str(tmp_path))
        self.fetched_what_was_stored(user, task, tmp_path)
        self.distances_are_distances(tmp_path)
        self.networks_parse(tmp_path)
        self.plot_is_a_picture(tmp_path)

    def passed_its_states(self, user: Api, task: dict[str, object]) -> None:
        events = user.events(task)
        states = [event["to_state"] for event in events if event["to_state"] != event["from_state"]]
        assert [state for state in states if state] == ["queued", "running", "success"]
        assert (task["state"], task["attempt"], task["exit_code"], task["progress"]) == ("success", 1, 0, 1.0)
        assert task["failure"] is None

    def watched(self, output: str) -> None:
        places = [output.find(state) for state in ("running", "success")]
        assert -1 < places[0] < places[1], output
        shares = [int(share) for share in re.findall(r"(\d{1,3})\s?%", output)]
        assert shares == sorted(shares), output
        # A quick machine is done before its second report.
        assert len(set(shares)) >= 2, output

    def fetched_what_was_stored(self, user: Api, task: dict[str, object], folder: Path) -> None:
        artifacts = user.artifacts(task)
        files = {path.name: path for path in folder.rglob("*") if path.is_file()}
        assert {Path(name).name for name in artifacts} == files.keys()
        for name, artifact in artifacts.items():
            content = files[Path(name).name].read_bytes()
            assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
            assert len(content) == artifact["size"]

    def distances_are_distances(self, folder: Path) -> None:
        with next(folder.rglob("distances.csv")).open() as stream:
            rows = list(csv.reader(stream))
        numbers = [float(cell) for row in rows for cell in row if re.fullmatch(r"[0-9.eE+-]+", cell)]
        assert len(numbers) >= 3, rows
        words = " ".join(cell.lower() for row in rows for cell in row)
        assert "hamming" in words
        assert "ipsen" in words
        assert "him" in words
        assert all(0 <= number <= 1 for number in numbers[:3]), rows
        assert any(0 < number < 1 for number in numbers), "two different classes have different networks"

    def networks_parse(self, folder: Path) -> None:
        files = sorted(folder.rglob("*.graphml"))
        assert len(files) == 2
        nodes = []
        for file in files:
            root = ElementTree.parse(file).getroot()
            nodes.append(len(root.findall(f".//{GRAPHML}node")))
            assert root.findall(f".//{GRAPHML}edge"), file.name
        assert nodes[0] == nodes[1] > 2, "both networks are over the same genes"

    def plot_is_a_picture(self, folder: Path) -> None:
        (plot,) = folder.rglob("*.png")
        width, height = png_size(plot.read_bytes())
        assert 400 <= width <= 10_000
        assert 300 <= height <= 10_000
        assert plot.stat().st_size > 10_000, "an empty canvas compresses to less"


TABLE = "dose,response,group\n1,2.5,a\n2,3.5,b\n3,,a\n"


class TestTableSummary:
    def test_summarises_an_uploaded_dataset(self, user: Api) -> None:
        dataset = user.upload("doses.csv", TABLE.encode())
        assert dataset["sha256"] == hashlib.sha256(TABLE.encode()).hexdigest()
        job = user.submit("table-summary", inputs={"table": dataset["id"]})
        task = user.wait(job)
        assert task["state"] == "success", task
        summary = user.content(user.artifacts(task)["summary.csv"]).text
        assert {"dose", "response", "group"} <= set(re.findall(r"\w+", summary))

    def test_says_where_a_table_is_broken(self, user: Api) -> None:
        dataset = user.upload("broken.csv", b'a,b\n1,2\n3,"4\n')
        task = user.wait(user.submit("table-summary", inputs={"table": dataset["id"]}))
        assert (task["state"], task["failure"]) == ("failed", "user")
        assert "Line 3" in task["message"] + user.log(task).decode()


class TestPreviews:
    def preview(self, user: Api, name: str, content: bytes) -> dict[str, Any]:
        dataset = user.upload(name, content)["id"]

        def made() -> bool:
            return user.get(f"datasets/{dataset}/preview")["state"] in {"done", "failed"}

        wait_for(made, 120, f"a preview of {name}")
        return dict(user.get(f"datasets/{dataset}/preview"))

    def test_a_table_is_looked_through(self, user: Api) -> None:
        lines = [b"gene;count", *(b"g%d;%d" % (number % 7, number) for number in range(30_000))]
        lines[20_000] = b"broken"
        preview = self.preview(user, "genes.csv", b"\n".join(lines))
        assert preview["state"] == "done", preview
        result = preview["result"]
        assert (result["separator"], result["encoding"], result["columns_total"]) == (";", "utf-8", 2)
        assert [column["type"] for column in result["columns"]] == ["text", "whole number"]
        assert [each["line"] for each in result["rejected"]["shown"]] == [20_001]

    def test_what_is_no_table_says_why(self, user: Api) -> None:
        preview = self.preview(user, "none.csv", b"a,b\n1,\0\n")
        assert (preview["state"], preview["result"]) == ("failed", None)
        assert "Line 2 (byte 6)" in preview["message"]


class TestCatalogue:
    """Every protocol that ships is imported, and runs on its own sample with what a worker has by default.

    Those with a lock file need the package index; in a lab without a way to it they say so.
    """

    def test_each_shows_itself(self, user: Api) -> None:
        shipped = {path.parent.name for path in PROTOCOLS.glob("*/protocol.yml")} - {"table-summary"}
        assert len(shipped) > 10
        jobs = {name: user.submit(name, label="catalogue") for name in sorted(shipped)}
        tasks = {name: user.wait(job, seconds=600) for name, job in jobs.items()}
        # This one says what it misses: ffmpeg is no default of a worker.
        media = tasks.pop("media")
        assert media["state"] == "inapplicable", media
        assert "ffmpeg" in media["message"]
        locked = {
            name
            for name in shipped
            if "requirements.lock" in (PROTOCOLS / name / "protocol.yml").read_text(encoding="utf-8")
        }
        away = {name for name in locked if "The package index " in tasks[name]["message"]}
        lost = {name: task["message"] for name, task in tasks.items() if task["state"] != "success"}
        assert lost.keys() == away, lost
        for name in tasks.keys() - away:
            assert user.artifacts(tasks[name]), name


class TestDownloads:
    CONTENT = bytes(range(256)) * 40

    @pytest.fixture
    def dataset(self, user: Api) -> str:
        return str(user.upload("bytes.bin", self.CONTENT, "application/octet-stream")["id"])

    def test_whole(self, user: Api, dataset: str) -> None:
        answer = user.http.get(f"/api/v1/datasets/{dataset}/content")
        assert (answer.status_code, answer.content) == (200, self.CONTENT)
        assert answer.headers["accept-ranges"] == "bytes", "nginx serves it, not Python"

    def test_range(self, user: Api, dataset: str) -> None:
        answer = user.http.get(f"/api/v1/datasets/{dataset}/content", headers={"Range": "bytes=100-199"})
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes 100-199/{len(self.CONTENT)}"
        assert answer.content == self.CONTENT[100:200]

    def test_range_outside(self, user: Api, dataset: str) -> None:
        answer = user.http.get(f"/api/v1/datasets/{dataset}/content", headers={"Range": "bytes=99999999-"})
        assert answer.status_code == 416

    def test_store_is_internal(self, user: Api) -> None:
        sha256 = hashlib.sha256(self.CONTENT).hexdigest()
        for path in (f"/_store/blobs/{sha256}", f"/_store/{sha256[:2]}/{sha256}", "/_store/"):
            assert user.http.get(path).status_code == 404


class TestCommandLine:
    def test_lists_what_there_is(self, signed_in: Cli) -> None:
        names = {item["name"] for item in json.loads(signed_in("protocols", "list", "--json").stdout)}
        assert {"differential-network", "table-summary"} <= names
        workers = json.loads(signed_in("workers", "--json").stdout)
        assert workers
        assert all(worker["slots"] >= 1 for worker in workers)

    def test_refuses_a_wrong_password_in_one_line(self, cli: Cli, lab) -> None:  # type: ignore[no-untyped-def]
        arguments = ("--user", "acceptance", "--ca-file", str(lab.ca_file), "--password-file", "-")
        done = cli("login", lab.url, *arguments, stdin="wrong wrong wrong", code=1)
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
