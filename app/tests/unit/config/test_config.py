from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labfleet import config
from labfleet.errors import ConfigError

WEB = '[web]\npublic_url = "https://lab.example"\n[dispatcher]\nrunner_urls = ["https://127.0.0.1:8443"]\n'
WORKER = '[worker]\nname = "w1"\n[front_ends.web]\nurl = "https://127.0.0.1"\n'
Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    config.forget()
    yield
    config.forget()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "labfleet.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("LABFLEET_CONFIG", str(path))
        return path

    return write


def test_a_minimal_webserver_file_gets_the_defaults(write: Write) -> None:
    write(WEB)
    settings = config.web_settings()
    assert settings.web.public_url == "https://lab.example"
    assert settings.database.user == "labfleet_web"
    assert settings.leases.max_attempts == 3
    assert config.dispatcher_settings() is settings


def test_the_environment_goes_before_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(WEB + '[database]\nhosts = ["db1"]\nport = 6432\n')
    monkeypatch.setenv("LABFLEET_DATABASE__HOSTS", '["db2"]')
    settings = config.web_settings()
    assert (settings.database.hosts, settings.database.port) == (["db2"], 6432)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[dispatcher]\nrunner_urls = ["x"]\n', r"\[web\]: is required; add it"),
        ('[web]\n[dispatcher]\nrunner_urls=["x"]', r"\[web\] public_url: is required"),
        (WEB + "[leases]\nlease_secnds = 3\n", r"\[leases\] lease_secnds: is not a known key"),
        (WEB + "[leases]\nlease_seconds = -3\n", r"\[leases\] lease_seconds: .*greater than 0"),
        (WEB + '[database]\nport = "many"\n', r"\[database\] port: .*integer"),
        (WEB + "[surprise]\n", r"\[surprise\]: is not a known key"),
        ("[web", "Expected"),
    ],
)
def test_an_error_names_file_key_and_remedy(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.web_settings()
    assert str(path) in caught.value.detail
    assert str(path) in caught.value.hint


def test_every_wrong_key_is_named_at_once(write: Write) -> None:
    write("[web]\n[dispatcher]\n")
    with pytest.raises(ConfigError) as caught:
        config.web_settings()
    assert len(caught.value.detail.splitlines()) == 2


def test_without_a_file_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABFLEET_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="LABFLEET_CONFIG is not set") as caught:
        config.web_settings()
    assert "LABFLEET_CONFIG=/etc/labfleet" in caught.value.hint
    monkeypatch.setenv("LABFLEET_CONFIG", "/nonexistent.toml")
    with pytest.raises(ConfigError, match=r"/nonexistent\.toml, which is no file"):
        config.web_settings()


@pytest.mark.parametrize(
    ("text", "tier"), [(WEB, "webserver"), ("[runner]\n", "queue machine"), (WORKER, "worker")]
)
def test_a_file_is_checked_as_that_of_its_tier(write: Write, text: str, tier: str) -> None:
    write(text)
    assert config.check_file() == tier


@pytest.mark.parametrize("text", ["", "[log]\nlevel = 'info'\n", "[[", "[worker]\nname = 'w1'\n"])
def test_a_file_of_no_tier_or_with_a_fault_is_refused(write: Write, text: str) -> None:
    write(text)
    with pytest.raises(ConfigError):
        config.check_file()


def test_the_other_tiers_read_their_files(write: Write) -> None:
    write("[publisher]\nkeys = ['r']\n")
    assert config.queue_settings().publisher.keys == ["r"]
    write(WORKER)
    assert config.worker_settings().front_ends["web"].url == "https://127.0.0.1"


def test_a_credential_comes_without_its_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "database_password").write_text("s3 cret \n", encoding="utf-8")
    (tmp_path / "signing_keys").write_text("new\n\n old \n", encoding="utf-8")
    assert config.credential("database_password") == "s3 cret "
    assert config.credential_lines("signing_keys") == ["new", "old"]


def test_a_missing_credential_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set"):
        config.credential("session_key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match="session_key") as caught:
        config.credential("session_key")
    assert "LoadCredential=session_key" in caught.value.hint
    (tmp_path / "signing_keys").write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="empty"):
        config.credential_lines("signing_keys")
