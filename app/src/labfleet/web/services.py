"""What the views stand on: settings, database, store and keys, made once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import cast

from flask import current_app
from sqlalchemy.orm import Session, sessionmaker

from labfleet import config
from labfleet.config import ProtocolsSection, WebserverSettings
from labfleet.datasets.logs import LogStore
from labfleet.datasets.store import BlobStore
from labfleet.db.engine import make_engine, session_factory
from labfleet.jobs.joining import Archives
from labfleet.jobs.tokens import worker_hashes
from labfleet.mail.outbox import Post
from labfleet.protocols.store import ProtocolStore
from labfleet.sealing import Box
from labfleet.sources.vault import Vault
from labfleet.users import second_factor
from labfleet.web.ldap import Directory
from labfleet.web.oidc import Provider
from labfleet.web.ratelimit import RateLimit

EXTENSION = "labfleet"
# A worker ends a log that reached the limit with a line of its own.
LOG_SLACK = 64 * 1024


@dataclass(frozen=True)
class Services:
    """The parts of the process. `signing_keys`: the first signs attempts' tokens, all verify them."""

    settings: WebserverSettings
    sessions: sessionmaker[Session]
    store: BlobStore
    logs: LogStore
    protocols: ProtocolStore
    signing_keys: Sequence[str]
    worker_tokens: dict[str, list[str]]
    logins: RateLimit
    # Seals credentials of sources; opening them is for the loader.
    vault: Vault
    # Seals and opens the secrets of second factors.
    second_factors: Box
    # Says who people are, where the admin has named one.
    provider: Provider | None = None
    # The same, with the form of Labfleet's own names and passwords.
    directory: Directory | None = None
    # Clones, fetches and pushes that are under way: they must leave threads for everything else.
    gits: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(ProtocolsSection().git_at_once))

    @property
    def archives(self) -> Archives:
        """What machines are given that join by themselves."""
        return Archives(self.settings.web.store)

    @property
    def post(self) -> Post:
        """Whether mails can be sent, and what site they speak of."""
        return Post(self.settings.mail, self.settings.web.public_url)


def from_settings(settings: WebserverSettings) -> Services:
    """Open the engine and prepare the store; `ConfigError` for a secret that is missing."""
    engine = make_engine(settings.database, config.credential("database_password"))
    store = BlobStore(settings.web.store)
    logs = LogStore(settings.web.store, settings.limits.log_bytes + LOG_SLACK)
    store.prepare()
    logs.prepare()
    store.sweep()
    protocols = ProtocolStore(settings.web.protocols)
    protocols.sweep()
    return Services(
        settings=settings,
        sessions=session_factory(engine),
        store=store,
        logs=logs,
        protocols=protocols,
        signing_keys=config.credential_lines("signing_keys"),
        worker_tokens=worker_hashes(config.credential("worker_tokens")),
        logins=RateLimit(settings.web.login_attempts, settings.web.login_window_seconds),
        vault=Vault(config.credential_lines("source_keys")),
        second_factors=second_factor.box(config.credential_lines("source_keys")),
        provider=_provider(settings),
        directory=_directory(settings),
        gits=BoundedSemaphore(settings.protocols.git_at_once),
    )


def _provider(settings: WebserverSettings) -> Provider | None:
    if not settings.oidc.issuer:
        return None
    return Provider(settings.oidc, config.credential("oidc_client_secret"), settings.web.public_url)


def _directory(settings: WebserverSettings) -> Directory | None:
    if not settings.ldap.urls:
        return None
    return Directory(settings.ldap, config.credential("ldap_password") if settings.ldap.bind_dn else "")


def services() -> Services:
    """The services of the running application."""
    return cast(Services, current_app.extensions[EXTENSION])
