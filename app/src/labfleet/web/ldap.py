"""A directory (LDAP) as the web application asks it who somebody is, by OpenLDAP's own `ldapsearch`.

A program of the distribution speaks the protocol and checks certificates (decision 30). Passwords reach it
by a pipe, filters by its standard input, the names of entries by its environment, which is for nobody else
to see; so nothing that somebody typed is on its command line. What it answers is believed only with its exit
code.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore
from urllib.parse import urlsplit

from structlog import get_logger

from labfleet.config import LdapSection
from labfleet.errors import ConfigError, ProviderUnavailable
from labfleet.names import is_address
from labfleet.users.identities import Claimed

ISSUER = "ldap"
"""What identities of the directory have in place of an issuer: there is one directory."""
PROGRAM = "/usr/bin/ldapsearch"
PUBLIC_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# In bytes; in a filter a byte becomes three.
MAX_TYPED = 1024
# The program reads its filters by lines and takes the rest of a longer one (BUFSIZ) for another filter.
MAX_FILTER = 8000
MAX_TOLD = 500
# For a place among those who ask at once.
PATIENCE_SECONDS = 1.0
# Result codes (RFC 4511, A.1) by which a directory refuses a person and not us.
NOT_LET_IN = {19: "constraint violation", 49: "wrong password", 50: "no access", 53: "unwilling to perform"}
NO_SUCH_OBJECT = 32
TOO_MANY = 4
# The program's own for no connection, and for one on which no TLS came about.
NO_CONNECTION = {1, 255}
# The request of RFC 4511, 4.14: message 1, extended request, 1.3.6.1.4.1.1466.20037.
START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@")
_log = get_logger(__name__)


@dataclass(frozen=True)
class Reader:
    """As whom the directory is asked; without a name as nobody."""

    dn: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Entry:
    """What the directory says of somebody: values by attribute, in small letters."""

    dn: str
    values: Mapping[str, list[bytes]]

    def text(self, attribute: str) -> str:
        """The first value as text; empty where there is none that is text."""
        for value in self.values.get(attribute.lower(), []):
            try:
                return value.decode()
            except UnicodeDecodeError:
                continue
        return ""


@dataclass(frozen=True)
class Query:
    """A search: below which entry, or of which alone, and by which filter."""

    base: str
    filter: str = "(objectClass=*)"
    scope: str = "base"
    # "1.1" asks for none.
    attributes: Sequence[str] = ("1.1",)


@dataclass(frozen=True)
class _Answer:
    code: int
    entries: list[Entry]
    told: str


class Directory:
    """The directory of `[ldap]`. Its methods raise `ProviderUnavailable`, and the log says why."""

    def __init__(self, section: LdapSection, password: str) -> None:
        self.section = section
        self._places = BoundedSemaphore(section.at_once)
        self._service = Reader(section.bind_dn, password if section.bind_dn else "")

    def who(self, name: str, password: str) -> Claimed | None:
        """Who that is, if the directory takes the password; None for a wrong name or password."""
        # An empty password would be taken as the wish to be nobody, which may succeed (RFC 4513, 5.1.2).
        if not (_is_asked_for(name) and _is_asked_for(password)):
            return None
        if not self._places.acquire(timeout=PATIENCE_SECONDS):
            raise self._failed(
                _Answer(-1, [], ""), f"{self.section.at_once} sign-ins wait for it already (at_once)"
            )
        try:
            ask = self._by_template if self.section.user_dn else self._by_search
            found = ask(name, password)
            return None if found is None else self._claimed(*found)
        finally:
            self._places.release()

    def pretend(self, name: str, password: str) -> None:
        """Fail and last as `who` would if nobody had that name. The directory is told neither."""
        if _is_asked_for(name) and _is_asked_for(password):
            self.who(secrets.token_hex(8), secrets.token_hex(8))

    def _by_template(self, name: str, password: str) -> tuple[Entry, Reader] | None:
        """The person's own entry, read as this person: nobody else has to be able to."""
        reader = Reader(self.section.user_dn.replace("{name}", escaped(name)), password)
        answer = self._ask(reader, Query(reader.dn, attributes=self._attributes()))
        if answer.code in NOT_LET_IN:
            return self._refused(answer)
        if answer.code or len(answer.entries) != 1:
            raise self._failed(answer, "the entry of who signs in can't be read")
        return answer.entries[0], reader

    def _by_search(self, name: str, password: str) -> tuple[Entry, Reader] | None:
        section = self.section
        wanted = section.filter.replace("{name}", escaped(name))
        query = Query(section.base_dn, wanted, "sub", self._attributes())
        answer = self._ask(self._service, query)
        if answer.code == TOO_MANY or len(answer.entries) > 1:
            raise self._failed(answer, "webserver_ldap_filter finds several entries for one name")
        if answer.code:
            raise self._failed(answer, "the search for who signs in failed", base=section.base_dn)
        if not answer.entries:
            return None
        entry = answer.entries[0]
        tried = self._ask(Reader(entry.dn, password), Query(""))
        if tried.code in NOT_LET_IN:
            return self._refused(tried, dn=entry.dn)
        if tried.code:
            raise self._failed(tried, "the password can't be tried", dn=entry.dn)
        return entry, self._service

    def _attributes(self) -> list[str]:
        section = self.section
        return [one for one in (section.id_attribute, section.name_attribute, section.mail_attribute) if one]

    def _claimed(self, entry: Entry, reader: Reader) -> Claimed:
        section = self.section
        found = entry.values.get(section.id_attribute.lower(), [])
        name = entry.text(section.name_attribute)
        if len(found) != 1 or not found[0]:
            raise self._unusable(entry, "webserver_ldap_id_attribute", section.id_attribute)
        if not name:
            raise self._unusable(entry, "webserver_ldap_name_attribute", section.name_attribute)
        mail = entry.text(section.mail_attribute) if section.mail_attribute else ""
        return Claimed(
            ISSUER,
            _subject(section.id_attribute, found[0]),
            name,
            mail if is_address(mail) else None,
            frozenset(self._groups(entry, name, reader)),
        )

    def _groups(self, entry: Entry, name: str, reader: Reader) -> Iterator[str]:
        """Which of the groups that count the person is in."""
        section = self.section
        wanted = section.group_filter.replace("{dn}", escaped(entry.dn)).replace("{name}", escaped(name))
        for group in dict.fromkeys([*section.allowed_groups, *section.admin_groups]):
            answer = self._ask(reader, Query(group, wanted))
            if answer.code == NO_SUCH_OBJECT:
                _log.warning("the directory has no such group, or does not show it", group=group)
            elif answer.code:
                raise self._failed(answer, "the members of a group can't be looked up", group=group)
            elif answer.entries:
                yield group

    def _ask(self, reader: Reader, query: Query) -> _Answer:
        """One question, to the first address that takes the connection."""
        section = self.section
        seconds = section.timeout_seconds
        asked = query.filter.removeprefix("(").removesuffix(")").encode()
        if len(asked) > MAX_FILTER:
            raise self._failed(_Answer(-1, [], f"{len(asked)} bytes"), "the filter is too long")
        command = [
            *(PROGRAM, "-x", "-LLL", "-o", "ldif-wrap=no", "-o", f"nettimeout={max(1, int(seconds))}"),
            *("-l", str(max(1, int(seconds))), "-z", "2", "-H", " ".join(section.urls)),
            *(("-ZZ",) if section.starts_tls else ()),
            *("-s", query.scope, "-f", "-"),
        ]
        reading = None
        if reader.dn:
            reading = _pipe(reader.password.encode())
            command += ["-y", f"/dev/fd/{reading}"]
        try:
            ended = subprocess.run(
                # What begins otherwise than with a parenthesis it would take for an attribute.
                [*command, "(%s)", *query.attributes],
                input=asked + b"\n",
                capture_output=True,
                check=False,
                cwd="/",
                env=self._environment() | {"LDAPBINDDN": reader.dn, "LDAPBASE": query.base},
                pass_fds=() if reading is None else (reading,),
                timeout=seconds * len(section.urls) + 1,
            )
        except subprocess.TimeoutExpired:
            raise self._failed(
                _Answer(-1, [], f"nothing came within {seconds:g} s"), "it is too slow"
            ) from None
        except OSError as error:
            raise self._failed(_Answer(-1, [], str(error)), f"{PROGRAM} can't be run") from None
        finally:
            if reading is not None:
                os.close(reading)
        answer = _Answer(ended.returncode, list(_entries(ended.stdout)), _words(ended.stderr))
        if answer.code in NO_CONNECTION and not answer.entries:
            raise self._failed(answer, "; ".join(f"{url}: {self._why(url)}" for url in section.urls))
        return answer

    def _why(self, url: str) -> str:
        """What keeps us from there, in words: of the certificate, say, the program tells nothing."""
        section = self.section
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (636 if parts.scheme == "ldaps" else 389)
        try:
            with socket.create_connection((host, port), section.timeout_seconds) as plain:
                if section.clear_text:
                    return "it takes connections, but does not answer as a directory"
                if section.starts_tls:
                    plain.sendall(START_TLS)
                    if not plain.recv(MAX_TYPED):
                        return "it ends the connection when it is asked for TLS"
                with _trust(section.ca_file).wrap_socket(plain, server_hostname=host):
                    return "its certificate is good; see what was told"
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not trusted: {error.verify_message} (webserver_ldap_ca_file)"
        except (OSError, ConfigError) as error:
            return str(error)

    def _environment(self) -> dict[str, str]:
        """What goes before whatever the machine's own ldap.conf says: certificates are checked, always."""
        return {
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "LDAPREFERRALS": "off",
            "LDAPTLS_CACERT": str(self.section.ca_file or PUBLIC_AUTHORITIES),
            "LDAPTLS_REQCERT": "demand",
            "LDAPTLS_REQSAN": "demand",
        }

    def _refused(self, answer: _Answer, **where: str) -> tuple[Entry, Reader] | None:
        """Nobody: the person is told as of a wrong password, the admin what the directory says.

        `where` is an entry that was found: a name that was only typed may be a password in the wrong field.
        """
        _log.info("the directory refuses a sign-in", why=NOT_LET_IN[answer.code], told=answer.told, **where)
        return None

    def _failed(self, answer: _Answer, what: str, **where: str) -> ProviderUnavailable:
        _log.error(
            "the directory can't say who signs in", why=what, code=answer.code, told=answer.told, **where
        )
        return ProviderUnavailable("The directory that should say who you are does not answer as it should.")

    def _unusable(self, entry: Entry, setting: str, attribute: str) -> ProviderUnavailable:
        why = f"the entry has no value, or several, that {setting} ({attribute}) names"
        return self._failed(_Answer(0, [], ""), why, dn=entry.dn)


def _is_asked_for(typed: str) -> bool:
    return 0 < len(typed.encode()) <= MAX_TYPED and "\x00" not in typed


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file or PUBLIC_AUTHORITIES))
    except OSError as error:
        raise ConfigError(f"{ca_file} can't be read: {error}") from None


def escaped(text: str) -> str:
    r"""The text as a value in a filter (RFC 4515) or a name (RFC 4514): all but plain characters as `\xx`."""
    return "".join(chr(byte) if byte in _PLAIN else f"\\{byte:02x}" for byte in text.encode())


def _pipe(secret: bytes) -> int:
    """The reading end of a pipe that has the secret in it, which is far smaller than what a pipe holds."""
    reading, writing = os.pipe()
    try:
        os.write(writing, secret)
    finally:
        os.close(writing)
    return reading


def _subject(attribute: str, value: bytes) -> str:
    """The value that stays, as text. Active Directory's is bytes, of which it writes half backwards."""
    if attribute.lower() == "objectguid" and len(value) == 16:
        return str(uuid.UUID(bytes_le=value))
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text else f"hex:{value.hex()}"


def _entries(output: bytes) -> Iterator[Entry]:
    """The entries of an LDIF (RFC 2849) as the program writes it."""
    text = output.replace(b"\n ", b"")
    for block in re.split(rb"\n\n+", text.strip(b"\n")):
        values: dict[str, list[bytes]] = {}
        for line in block.split(b"\n"):
            name, colon, rest = line.partition(b":")
            if not colon or name.startswith(b"#"):
                continue
            encoded = rest.startswith(b":")
            value = base64.b64decode(rest[1:].strip()) if encoded else rest.removeprefix(b" ")
            values.setdefault(name.decode("ascii", "replace").lower(), []).append(value)
        # Without a name it is nobody's: to try a password as nobody would succeed with any.
        if any(names := values.pop("dn", [])):
            yield Entry(names[0].decode("utf-8", "surrogateescape"), values)


def _words(errors: bytes) -> str:
    """What the program complains of, in one line."""
    return " ".join(errors.decode("utf-8", "replace").split())[:MAX_TOLD]
