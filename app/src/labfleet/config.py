"""Configuration: one TOML file named by `LABFLEET_CONFIG`, secrets from `$CREDENTIALS_DIRECTORY`.

One settings class per tier; its sections and keys are those of docs/architecture.md. An
environment variable such as `LABFLEET_DATABASE__PORT` goes before the file, for development.
"""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from labfleet.errors import ConfigError
from labfleet.names import WORKER, is_address, is_key, is_worker
from labfleet.networks import Network

_REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
GIB = 1024**3
MIB = 1024**2


def _key(value: str) -> str:
    if not is_key(value):
        raise ValueError(f"'{value}' must be dotted words of a-z, 0-9, _ and -, the first not '{WORKER}'")
    return value


def _worker(value: str) -> str:
    if not is_worker(value):
        raise ValueError(f"'{value}' must be dotted words of letters, digits, _ and -")
    return value


def _index(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc):
        raise ValueError(f"'{value}' must be http(s)://HOST/PATH without a user, or empty for no index")
    return value


def _registry(value: str) -> str:
    if not _REGISTRY.fullmatch(value):
        raise ValueError(
            f"'{value}' must be HOST, HOST:PORT or HOST/PART, for example registry.example.org/lab"
        )
    return value


def _issuer(value: str) -> str:
    parts = urlsplit(value)
    if value and (not is_safe_url(value) or parts.query or parts.fragment):
        raise ValueError(f"'{value}' must be https://HOST/PATH, as the provider calls itself, or empty")
    return value


def is_safe_url(value: str) -> bool:
    """Whether what goes there is encrypted, or stays on this machine."""
    parts = urlsplit(value)
    here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    return (parts.scheme == "https" or here) and bool(parts.hostname) and "@" not in parts.netloc


Key = Annotated[str, AfterValidator(_key)]
WorkerName = Annotated[str, AfterValidator(_worker)]
Tag = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors, so that a misspelt one is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSection(Section):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class WebSection(Section):
    """`[web]`: the address that people use, and where data lies."""

    public_url: str
    store: Path = Path("/var/lib/labfleet/store")
    protocols: Path = Path("/var/lib/labfleet/protocols")
    max_upload_bytes: int = Field(default=10 * GIB, gt=0)
    session_hours: float = Field(default=12, gt=0)
    page_size_max: int = Field(default=200, gt=0)
    max_body_bytes: int = Field(default=MIB, gt=0)
    login_attempts: int = Field(default=10, gt=0)
    login_window_seconds: float = Field(default=300, gt=0)
    # Wrong codes of a second factor are counted for a user over all processes, by the two above.
    # Admins without one are let into nothing but its set-up; API tokens work as ever.
    admins_need_second_factor: bool = False
    # How long the right password waits for the code.
    second_factor_seconds: float = Field(default=300, gt=0)
    probe_timeout_seconds: float = Field(default=3, gt=0)
    # All results of a job as one file, made while it is sent; of larger ones `labfleet fetch` brings each.
    zip_max_bytes: int = Field(default=2 * GIB, gt=0)
    # The largest table that a page shows sorted, and the largest file that it draws.
    view_max_bytes: int = Field(default=4 * MIB, gt=0)
    # False for a development server: files are then sent by Python, and no proxy's headers are believed.
    behind_nginx: bool = True


class DatabaseSection(Section):
    """`[database]`: the password is the credential `database_password`. Of several hosts the one that takes
    writes is used. With a `ca_file`, its authority must have signed their certificates."""

    hosts: list[str] = Field(default=["127.0.0.1"], min_length=1)
    port: int = Field(default=5432, ge=1, le=65535)
    name: str = "labfleet"
    user: str = "labfleet_web"
    ca_file: Path | None = None
    pool_size: int = Field(default=10, gt=0)
    connect_timeout_seconds: int = Field(default=5, gt=0)
    # Of several hosts: one that has been silent for so long while it should have answered is gone.
    silent_seconds: int = Field(default=10, gt=0)


class DispatcherSection(Section):
    """`[dispatcher]`: how rows of the outbox reach the CGI runner; of several one that answers is used."""

    database_user: str = "labfleet_dispatcher"
    runner_urls: list[str] = Field(min_length=1)
    front_end: str = "web"
    ca_file: Path | None = None
    batch_size: int = Field(default=200, gt=0)
    poll_seconds: float = Field(default=2, gt=0)
    timeout_seconds: float = Field(default=20, gt=0)
    backoff_max_seconds: float = Field(default=15, gt=0)
    # How long a worker may leave a task alone before it is placed anew; a full worker ever longer.
    unclaimed_seconds: float = Field(default=30, gt=0)
    unclaimed_max_seconds: float = Field(default=60, gt=0)

    @property
    def runner_apis(self) -> list[str]:
        """Each runner's address with the path of its API, which `runner_urls` may carry or leave out."""
        return [f"{url.rstrip('/').removesuffix('/runner/v1')}/runner/v1" for url in self.runner_urls]


class OrderSection(Section):
    """`[order]`: which worker gets a task, and how much is decided at a time."""

    presence_timeout_seconds: float = Field(default=30, gt=0)
    # How many short tasks may wait at a worker whose slots are full of short ones, as far as it ends so many
    # within `ahead_seconds`; what has waited there for twice as long is placed anew. 0: none waits there.
    ahead_per_worker: int = Field(default=8, ge=0)
    ahead_seconds: float = Field(default=1, gt=0)
    max_load_per_core: float = Field(default=4, gt=0)
    short_seconds: int = Field(default=60, ge=0)
    short_tasks_pass_load: bool = True
    # How many tasks are placed at most before they are sent.
    release_batch: int = Field(default=50, gt=0)
    # How far into the order somebody is told his task's place; beyond it he reads "more than".
    explain_depth: int = Field(default=100, gt=0)


class LeasesSection(Section):
    """`[leases]`: how long a silent worker is believed to be alive, and how often we try."""

    # With the time until an attempt begins anew it must stay below the 60 s of docs/guarantees.md.
    lease_seconds: float = Field(default=30, gt=0)
    heartbeat_seconds: float = Field(default=5, gt=0)
    max_attempts: int = Field(default=3, gt=0)
    retry_seconds: float = Field(default=2, ge=0)


class LimitsSection(Section):
    """`[limits]`: what one attempt may use; a protocol's `needs` may ask up to these."""

    wall_seconds: int = Field(default=3600, gt=0)
    cpu_seconds: int = Field(default=4 * 3600, gt=0)
    memory_bytes: int = Field(default=2 * GIB, gt=0)
    log_bytes: int = Field(default=10 * MIB, gt=0)
    output_bytes: int = Field(default=GIB, gt=0)
    processes: int = Field(default=256, gt=0)


class JobsSection(Section):
    """`[jobs]`: how large one job may be, and how many jobs one call may change."""

    max_tasks: int = Field(default=100_000, gt=0)
    # Of its specification; a list of as many tasks has some megabytes.
    max_spec_bytes: int = Field(default=16 * MIB, gt=0)
    max_depth: int = Field(default=50, gt=0)
    max_bulk: int = Field(default=10_000, gt=0)
    tasks_shown: int = Field(default=100, gt=0)


class ProtocolsSection(Section):
    """`[protocols]`: what users may bring, and what git may take for it."""

    max_archive_bytes: int = Field(default=16 * MIB, gt=0)
    # One push, as git packs it.
    max_push_bytes: int = Field(default=64 * MIB, gt=0)
    # Of one push or import: commits, directories and files of all commits together.
    max_push_objects: int = Field(default=100_000, gt=0)
    # One clone, fetch or push, as a whole; and how many of them a web process serves at a time.
    git_seconds: float = Field(default=300, gt=0)
    git_at_once: int = Field(default=2, gt=0)
    git_memory_bytes: int = Field(default=GIB, gt=0)
    # `labfleet-admin protocol gc` packs a repository anew that has more packs, or loose objects, than these,
    # and forgets what no version needs when it is older than so many days.
    gc_packs: int = Field(default=20, gt=0)
    gc_loose: int = Field(default=500, gt=0)
    gc_prune_days: int = Field(default=14, gt=0)


class Retried(Section):
    """What is tried until it goes well: how often we look for it, how long we wait, when we give up."""

    poll_seconds: float = Field(default=30, gt=0)
    # After the first failure, then twice as long each time up to the cap.
    first_delay_seconds: float = Field(default=10, gt=0)
    delay_max_seconds: float = Field(default=3600, gt=0)
    tries: int = Field(gt=0)

    def delay(self, tries: int) -> float:
        """How many seconds to wait after so many tries: each time twice as long, up to the cap."""
        return min(self.delay_max_seconds, self.first_delay_seconds * 2.0 ** min(tries - 1, 30))


class WebhooksSection(Retried):
    """`[webhooks]`: where the end of a job may be told, and how often we try. No network: off."""

    allowed_networks: list[Network] = Field(default_factory=list)
    ca_file: Path | None = None
    # Of one call, as a whole. Less than the 30 seconds that systemd waits for the process to end.
    timeout_seconds: float = Field(default=10, gt=0, le=25)
    # How many calls are made at once.
    batch_size: int = Field(default=20, gt=0)
    # Eleven hours in all.
    tries: int = Field(default=20, gt=0)


class MailSection(Retried):
    """`[mail]`: the SMTP server that takes our mails; without a host mail is off. The password of `user` is
    the credential `smtp_password` of the process that sends."""

    host: str = ""
    port: int = Field(default=587, ge=1, le=65535)
    # starttls: begins in clear and goes on encrypted, or not at all; tls: encrypted from the first byte on.
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    # Whom mails come from, an address without a name; "Labfleet" is put before it.
    sender: str = ""
    # The authority of the server's certificate, where it is none of the public ones.
    ca_file: Path | None = None
    # Of each step of a conversation with the server. Less than the 30 seconds that systemd waits.
    timeout_seconds: float = Field(default=20, gt=0, le=25)
    # Fifteen hours in all.
    tries: int = Field(default=23, gt=0)
    # How long the links in mails are good: of an invitation, of a forgotten password, of a new address.
    invitation_hours: float = Field(default=168, gt=0)
    reset_minutes: float = Field(default=60, gt=0)
    address_hours: float = Field(default=24, gt=0)
    # How many mails for a forgotten password an account is sent within the time that one of them is good.
    reset_mails: int = Field(default=3, gt=0)
    # Of the ends of jobs: what ends within so long goes into one mail, for who wants it so; so many mails of
    # single jobs a user gets at most within that time, the rest is told in one; so many jobs one mail names.
    digest_minutes: float = Field(default=60, gt=0)
    single_mails: int = Field(default=20, gt=0)
    digest_jobs: int = Field(default=100, gt=0)
    # How long the end of a job is worth a mail.
    job_hours: float = Field(default=24, gt=0)
    # How long it is remembered what was sent to whom; the text of a mail is forgotten once it is sent.
    kept_days: float = Field(default=30, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.host and not is_address(self.sender):
            raise ValueError("with a host, 'sender' must be a mail address, such as labfleet@example.org")
        if self.job_hours * 60 <= self.digest_minutes:
            raise ValueError("'job_hours' must be longer than 'digest_minutes', else no digest is ever sent")
        if self.user and self.security == "none":
            raise ValueError("with a user, 'security' must be starttls or tls: no password is sent in clear")
        return self


class OidcSection(Section):
    """`[oidc]`: sign-in by an OpenID Connect provider; without an issuer it is off. The client's secret is
    the credential `oidc_client_secret`. Claims may lie deeper: `realm_access.roles`."""

    # What a hint calls the setting that names accounts.
    named_by: ClassVar[str] = "webserver_oidc_name_claim"
    # As the provider calls itself in its discovery document, to the letter.
    issuer: Annotated[str, AfterValidator(_issuer)] = ""
    client_id: str = ""
    # What the button of the sign-in page calls it.
    label: str = "single sign-on"
    scopes: list[str] = ["openid", "profile", "email"]
    name_claim: str = "preferred_username"
    mail_claim: str = "email"
    groups_claim: str = "groups"
    # Who is let in: members of one of the groups, with a verified address in one of the domains.
    allowed_groups: list[str] = Field(default_factory=list)
    allowed_mail_domains: list[str] = Field(default_factory=list)
    # Members of one of these are admins, as long as they are members.
    admin_groups: list[str] = Field(default_factory=list)
    # Whether an account is made for who is let in and has none; else only linked accounts are opened.
    accounts: bool = False
    # Whether the provider asks for a second factor itself, so that none is asked for here.
    second_factor: bool = False
    # The authority of the provider's certificate, where it is none of the public ones.
    ca_file: Path | None = None
    # How far the clocks of provider and webserver may be apart.
    clock_skew_seconds: float = Field(default=60, ge=0)
    # Of one request to the provider, as a whole; a thread of the web process waits meanwhile.
    timeout_seconds: float = Field(default=10, gt=0, le=50)
    # How long its discovery document and keys are believed; and how soon an unknown key lets us ask anew.
    metadata_seconds: float = Field(default=3600, ge=0)
    keys_seconds: float = Field(default=30, ge=0)
    # How long somebody may take to sign in there.
    sign_in_seconds: float = Field(default=900, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.issuer and not self.client_id:
            raise ValueError("with an issuer, 'client_id' must be what the provider calls this Labfleet")
        if self.issuer and "openid" not in self.scopes:
            raise ValueError("'scopes' must have openid, which is what makes it a sign-in")
        return self


_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9.;-]*")


class LdapSection(Section):
    """`[ldap]`: sign-in by a directory, with its name and password in the form of Labfleet's own; without
    addresses it is off. The service account's password is the credential `ldap_password`."""

    # What a hint calls the setting that names accounts.
    named_by: ClassVar[str] = "webserver_ldap_name_attribute"
    # `ldaps://HOST`, or `ldap://HOST` with StartTLS, tried one after the other.
    urls: list[str] = Field(default_factory=list)
    # Without TLS, so that everybody on the way reads the passwords.
    clear_text: bool = False
    # The authority of the directory's certificate, where it is none of the public ones.
    ca_file: Path | None = None
    # What the sign-in page calls it.
    label: str = "the directory"
    # Below it `filter` finds who signs in, by the name that was typed.
    base_dn: str = ""
    filter: str = "(uid={name})"
    # Who searches: a service account; empty: nobody, if the directory lets everybody search.
    bind_dn: str = ""
    # In place of a search: what the entry of who signs in is called.
    user_dn: str = ""
    # What stays when somebody is given another name.
    id_attribute: str = "entryUUID"
    name_attribute: str = "uid"
    mail_attribute: str = "mail"
    # By what a group (by its own name in the directory) is found to have somebody as a member.
    group_filter: str = "(|(member={dn})(uniqueMember={dn})(memberUid={name}))"
    # Who is let in: members of one of the groups; empty: everybody with an entry.
    allowed_groups: list[str] = Field(default_factory=list)
    admin_groups: list[str] = Field(default_factory=list)
    # Whether an account is made for who is let in and has none; else only linked accounts are opened.
    accounts: bool = False
    # Of one question, of which a sign-in takes two, and one for each group; a thread waits meanwhile.
    timeout_seconds: float = Field(default=5, ge=1, le=20)
    # How many sign-ins of one process ask it at once; a slow one must leave threads for everything else.
    at_once: int = Field(default=3, gt=0)

    @property
    def starts_tls(self) -> bool:
        """Whether a connection begins without TLS and must have it before anything is said."""
        return not self.clear_text and any(url.startswith("ldap:") for url in self.urls)

    @property
    def allowed_mail_domains(self) -> list[str]:
        """A directory knows only its own people."""
        return []

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.urls:
            return self
        kinds = {urlsplit(url).scheme for url in self.urls}
        if not all(_LDAP_URL.fullmatch(url) for url in self.urls) or len(kinds) != 1:
            raise ValueError(
                "'urls' must be ldaps://HOST[:PORT], or all of them ldap://HOST[:PORT] (StartTLS)"
            )
        if self.clear_text and kinds == {"ldaps"}:
            raise ValueError("'clear_text' goes with ldap://, not with ldaps://")
        if bool(self.base_dn) == bool(self.user_dn):
            raise ValueError("write either 'base_dn' (with 'filter') or 'user_dn'")
        if self.user_dn and (self.bind_dn or self.user_dn.count("{name}") != 1):
            raise ValueError("'user_dn' must have {name} in it once, and needs no 'bind_dn'")
        if self.base_dn and (self.filter.count("{name}") != 1 or not _is_filter(self.filter)):
            raise ValueError("'filter' must have {name} in it once, in parentheses and without %")
        if not _is_filter(self.group_filter) or not {"{dn}", "{name}"} & set(
            _PLACE.findall(self.group_filter)
        ):
            raise ValueError("'group_filter' must have {dn} or {name} in it, in parentheses and without %")
        named = {"id_attribute": self.id_attribute, "name_attribute": self.name_attribute}
        for key, value in (
            named | ({"mail_attribute": self.mail_attribute} if self.mail_attribute else {})
        ).items():
            if not _ATTRIBUTE.fullmatch(value):
                raise ValueError(f"'{key}' must be the name of an attribute")
        return self


_LDAP_URL = re.compile(r"ldaps?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?")
_PLACE = re.compile(r"\{[a-z]+\}")


def _is_filter(value: str) -> bool:
    return value.startswith("(") and value.endswith(")") and "%" not in value and "\n" not in value


class DataSection(Section):
    """`[data]`: how tables are looked through (a file of gigabytes takes time and disk, not memory), and how
    long data that nobody uses are kept."""

    # `labfleet-admin store sweep` deletes older datasets that no job takes; 0: they are kept for ever.
    unused_days: int = Field(default=0, ge=0)
    # It removes contents that nobody has wanted for so long, and refuses to work where the store has more
    # files than this that the database does not know: then it may be the wrong database.
    grace_hours: float = Field(default=168, ge=1)
    max_strays: int = Field(default=100, ge=0)
    preview_max_bytes: int = Field(default=4 * GIB, gt=0)
    preview_seconds: float = Field(default=300, gt=0)
    preview_memory_bytes: int = Field(default=512 * MIB, ge=64 * MIB)
    # Of each file that is made on the way; they are gone when the preview is there.
    preview_disk_bytes: int = Field(default=8 * GIB, gt=0)
    preview_rows: int = Field(default=10, gt=0, le=100)
    preview_columns: int = Field(default=40, gt=0, le=200)
    tries: int = Field(default=3, gt=0)
    poll_seconds: float = Field(default=30, gt=0)


def _everywhere() -> list[Network]:
    return [IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]


class SourcesSection(Section):
    """`[sources]`: what may be fetched for users, from where, and how much it may take."""

    # One that is not private itself opens no private network inside of it. None: nothing from the network.
    networks: list[Network] = Field(default_factory=_everywhere)
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default=[80, 443])
    # Directories of this machine below which files may be taken.
    folders: list[Path] = Field(default_factory=list)
    # Authorities to trust besides the system's.
    ca_file: Path | None = None
    # Whether credentials may be shown over a connection that is not encrypted.
    clear_credentials: bool = False
    socket: Path = Path("/run/labfleet-fetcher/fetcher.sock")
    # How long what was fetched is good for, where the source does not say.
    lifetime_seconds: int = Field(default=86400, ge=0)
    # How many fetches there are at a time, and how long one may take as a whole.
    at_once: int = Field(default=2, gt=0, le=32)
    seconds: float = Field(default=1800, gt=0)
    silent_seconds: float = Field(default=30, gt=0)
    max_bytes: int = Field(default=4 * GIB, gt=0)
    # Of a query to a database: how long it may take there, and how much it may bring.
    query_seconds: float = Field(default=600, gt=0)
    max_rows: int = Field(default=100_000_000, gt=0)
    # Of a fetch of several objects: how many it may be, and how many names are looked through for them.
    max_objects: int = Field(default=1000, gt=0)
    max_listed: int = Field(default=100_000, gt=0)
    memory_bytes: int = Field(default=512 * MIB, ge=64 * MIB)
    # Of each file that is made on the way.
    disk_bytes: int = Field(default=8 * GIB, gt=0)
    # After a failure that may pass, each time twice as long.
    tries: int = Field(default=3, gt=0)
    retry_seconds: float = Field(default=10, ge=0)
    poll_seconds: float = Field(default=30, gt=0)
    # How many fetches of a source are remembered.
    kept: int = Field(default=50, gt=0)


class RunnerSection(Section):
    """`[runner]`: the CGI program (which reads the file by itself, standard library only)."""

    socket: Path = Path("/run/labfleet-publisher/publisher.sock")
    timeout_seconds: float = Field(default=15, gt=0)
    max_body_bytes: int = Field(default=16 * MIB, gt=0)
    max_batch: int = Field(default=1000, gt=0)


class BrokerSection(Section):
    """`[broker]`: the password is the credential `broker_password`, of several lines several that are tried.
    Any of the hosts will do: they are one cluster; where there is a `ca_file` they are spoken to by TLS, and
    their certificates carry `tls_name`."""

    hosts: list[str] = Field(default=["127.0.0.1"], min_length=1)
    port: int = Field(default=5672, ge=1, le=65535)
    vhost: str = "labfleet"
    user: str
    ca_file: Path | None = None
    tls_name: str = "rabbitmq.labfleet.internal"

    def tls(self) -> dict[str, Any] | None:
        """TLS as py-amqp and Celery want it; None for a broker that is spoken to in clear."""
        if self.ca_file is None:
            return None
        return {
            "ca_certs": str(self.ca_file),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": self.tls_name,
        }


class PublisherSection(Section):
    """`[publisher]`: the resident process that holds the broker's connection."""

    socket: Path = Path("/run/labfleet-publisher/publisher.sock")
    keys: list[Key] = Field(default=["python", "r"])
    workers: list[WorkerName] = Field(default_factory=list)
    confirm_timeout_seconds: float = Field(default=10, gt=0)
    delivery_limit: int = Field(default=10, gt=0)


class WorkerSection(Section):
    """`[worker]`: what this worker serves and where it works."""

    name: WorkerName
    keys: list[Key] = Field(default=["python", "r"])
    tags: list[Tag] = Field(default_factory=list, max_length=100)
    slots: int = Field(default=1, gt=0)
    work_directory: Path = Path("/var/lib/labfleet-worker")
    # How attempts let the machine's services go first: with a small share, or with what nobody else wants.
    attempt_scheduling: Literal["nice", "idle"] = "nice"
    presence_seconds: float = Field(default=5, gt=0)
    grace_seconds: float = Field(default=10, ge=0)
    patience_seconds: float = Field(default=900, gt=0)
    protocol_cache_bytes: int = Field(default=256 * MIB, ge=0)
    sandbox_readonly_paths: list[Path] = Field(default_factory=list)
    # Where this machine has the webserver's store mounted: inputs are then read there and not fetched.
    store_mount: Path | None = None


class PackagesSection(Section):
    """`[packages]`: how this worker makes environments that protocols ask for by a lock file."""

    # Empty: no index, and no network; only wheels that the protocol brings along.
    index_url: Annotated[str, AfterValidator(_index)] = "https://pypi.org/simple"
    # The authority of the index's certificate, where it is none of the public ones.
    ca_file: Path | None = None
    # Packages without a wheel are built, which runs code of theirs with the network open.
    sdists: bool = False
    # Where R packages come from, laid out like CRAN, in this order. None: only tarballs of the protocol.
    r_index_urls: list[Annotated[str, Field(min_length=1), AfterValidator(_index)]] = Field(
        default=["https://cloud.r-project.org"], max_length=10
    )
    r_ca_file: Path | None = None
    build_seconds: float = Field(default=900, gt=0)
    # How large one environment may be, and all that are kept.
    environment_bytes: int = Field(default=2 * GIB, gt=0)
    cache_bytes: int = Field(default=5 * GIB, ge=0)


class ImagesSection(Section):
    """`[images]`: whether this worker runs container images that protocols name, and where they are from."""

    enabled: bool = False
    # Registries, or parts of them (registry.example.org/lab), that may be asked. None: no network for it.
    registries: list[Annotated[str, AfterValidator(_registry)]] = Field(default_factory=list, max_length=50)
    # A directory with images that the site keeps, each in one that is named by its digest.
    folder: Path | None = None
    # An authority that vouches for a registry, beside the public ones.
    ca_file: Path | None = None
    # Whether the service has a secret registry_auth.
    sign_in: bool = False
    # What fetching and unpacking one may take, and how large one may be.
    max_seconds: float = Field(default=1800, gt=0)
    max_bytes: int = Field(default=8 * GIB, gt=0)


class FrontEndSection(Section):
    """`[front_ends.<name>]`: where the attempts of this front end are claimed."""

    url: str
    ca_file: Path | None = None


class TierSettings(BaseSettings):
    """What the tiers share: the file, the environment before it, and `[log]`."""

    model_config = SettingsConfigDict(
        env_prefix="LABFLEET_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    log: LogSection = LogSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_path())
        return init_settings, env_settings, toml


class JoinsSection(Section):
    """`[joins]`: machines that join the fleet by themselves (playbooks/invite.yml)."""

    # How long an invitation is good, and how large what the machine is given may be.
    hours: float = Field(default=24, gt=0)
    max_bytes: int = Field(default=GIB, gt=0)


class WebserverSettings(TierSettings):
    """`webserver.toml`, read by the processes of the tier and by the admin's commands."""

    web: WebSection
    database: DatabaseSection = DatabaseSection()
    dispatcher: DispatcherSection
    order: OrderSection = OrderSection()
    leases: LeasesSection = LeasesSection()
    limits: LimitsSection = LimitsSection()
    jobs: JobsSection = JobsSection()
    protocols: ProtocolsSection = ProtocolsSection()
    webhooks: WebhooksSection = WebhooksSection()
    mail: MailSection = MailSection()
    oidc: OidcSection = OidcSection()
    ldap: LdapSection = LdapSection()
    data: DataSection = DataSection()
    sources: SourcesSection = SourcesSection()
    joins: JoinsSection = JoinsSection()


class QueueSettings(TierSettings):
    """`queue.toml`, read by the publisher (and, by itself, by the CGI runner)."""

    runner: RunnerSection = RunnerSection()
    publisher: PublisherSection = PublisherSection()
    broker: BrokerSection = BrokerSection(user="labfleet_publisher")


class WorkerSettings(TierSettings):
    """`worker.toml`."""

    worker: WorkerSection
    packages: PackagesSection = PackagesSection()
    images: ImagesSection = ImagesSection()
    broker: BrokerSection = BrokerSection(user="labfleet_worker")
    front_ends: dict[str, FrontEndSection]


Tier = TypeVar("Tier", bound=TierSettings)


def config_path() -> Path:
    """The file that `LABFLEET_CONFIG` names; `ConfigError` if it is unset or can't be read."""
    name = os.environ.get("LABFLEET_CONFIG")
    if not name:
        raise ConfigError(
            "LABFLEET_CONFIG is not set.",
            hint="Set it to the configuration file, e.g. LABFLEET_CONFIG=/etc/labfleet/webserver.toml.",
        )
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"LABFLEET_CONFIG names {path}, which is no file.",
            hint="Create it, or point LABFLEET_CONFIG to the right one.",
        )
    return path


def load(settings: type[Tier]) -> Tier:
    """Read and check the file of one tier; `ConfigError` names each wrong key, the file and the fix."""
    path = config_path()
    try:
        return settings()
    except ValidationError as error:
        raise ConfigError(_explain(path, error), hint=f"Correct {path}; see docs/architecture.md.") from None
    except (ValueError, OSError) as error:  # tomllib's error is a ValueError
        raise ConfigError(f"{path}: {error}", hint=f"Make {path} readable, valid TOML.") from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        section, *keys = (str(part) for part in item["loc"])
        key = f"[{section}] {'.'.join(keys)}".strip()
        lines.append(f"{path}: {key}: {_REMEDIES.get(item['type'], item['msg'])}")
    return "\n".join(lines)


_REMEDIES = {
    "missing": "is required; add it",
    "extra_forbidden": "is not a known key; remove it or correct its spelling",
}


@cache
def web_settings() -> WebserverSettings:
    """The webserver tier's settings, read once per process."""
    return load(WebserverSettings)


def dispatcher_settings() -> WebserverSettings:
    """The dispatcher's settings: it reads the same file as the web process."""
    return web_settings()


@cache
def queue_settings() -> QueueSettings:
    """The queue tier's settings, read once per process."""
    return load(QueueSettings)


@cache
def worker_settings() -> WorkerSettings:
    """The worker tier's settings, read once per process."""
    return load(WorkerSettings)


def check_file() -> str:
    """Check the file as that of the tier whose section it has; the tier's name."""
    path = config_path()
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: {error}", hint=f"Make {path} readable, valid TOML.") from None
    for section, (tier, settings) in _TIERS.items():
        if section in sections:
            load(settings)
            return tier
    raise ConfigError(f"{path}: no section of a tier; one of [{'], ['.join(_TIERS)}] is needed.")


_TIERS: dict[str, tuple[str, type[TierSettings]]] = {
    "web": ("webserver", WebserverSettings),
    "runner": ("queue machine", QueueSettings),
    "worker": ("worker", WorkerSettings),
}


def forget() -> None:
    """Read the files anew at the next call (tests, reload)."""
    for reader in (web_settings, queue_settings, worker_settings):
        reader.cache_clear()


def credential(name: str) -> str:
    """The secret `$CREDENTIALS_DIRECTORY/<name>` without its final newline."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError(
            f"CREDENTIALS_DIRECTORY is not set, so the secret '{name}' can't be read.",
            hint="Under systemd use LoadCredential=; by hand set CREDENTIALS_DIRECTORY to a directory "
            f"that has the file '{name}'.",
        )
    path = Path(directory) / name
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ConfigError(
            f"The secret {path} can't be read: {error.strerror}.",
            hint=f"Create it, readable for this user, or add LoadCredential={name}:… to the unit.",
        ) from None


def credential_lines(name: str) -> list[str]:
    """A secret that holds several values, one a line (for example `signing_keys`, the first signs)."""
    values = [line.strip() for line in credential(name).splitlines() if line.strip()]
    if not values:
        raise ConfigError(f"The secret '{name}' is empty.", hint="Put one value on a line into it.")
    return values
