"""A directory of the tests' own: Debian's slapd in a directory of its own, with TLS, and people in it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mail_server import certificate

SUFFIX = "dc=lab,dc=test"
PEOPLE, GROUPS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"
SERVICE, SERVICE_PASSWORD = f"cn=labfleet,{SUFFIX}", "a service's passwörd, with % and 'quotes'"
ROOT, ROOT_PASSWORD = f"cn=root,{SUFFIX}", "of the root"
PASSWORD = "gräce's own: $password"
UUID = "11111111-2222-3333-4444-555555555555"
# People may be nobody by an empty password here, as in directories whose admins did not think of it.
CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
allow bind_anon_dn
pidfile {folder}/pid
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix "{suffix}"
rootdn "{root}"
rootpw "{root_password}"
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * {others}
"""
PERSON = """\
dn: {dn}
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
{more}userPassword: {password}

"""


@dataclass
class Slapd:
    """A directory that runs. `ca` is the file by which its certificate is trusted, of 127.0.0.1 alone."""

    folder: Path
    ca: Path
    port: int
    tls_port: int

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def change(self, ldif: str) -> None:
        """As its administrator."""
        command = ["ldapmodify", "-x", "-H", self.url, "-D", ROOT, "-w", ROOT_PASSWORD]
        done = subprocess.run(command, input=ldif, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def dn(uid: str) -> str:
    return f"uid={uid},{PEOPLE}"


def people() -> str:
    """Who is in it."""
    entries = [
        f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: lab\no: Lab\n\n",
        *(f"dn: {one}\nobjectClass: organizationalUnit\nou: {one[3:9]}\n\n" for one in (PEOPLE, GROUPS)),
        f"dn: {SERVICE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: labfleet\n"
        f"userPassword: {SERVICE_PASSWORD}\n\n",
        PERSON.format(
            dn=dn("grace"), uid="grace", more=f"mail: grace@lab.test\nentryUUID: {UUID}\n", password=PASSWORD
        ),
        PERSON.format(dn=dn("alan"), uid="alan", more="mail: no address\n", password=PASSWORD),
        PERSON.format(dn=dn("o\\,d(d)*"), uid="o,d(d)*", more="", password=PASSWORD),
        PERSON.format(dn=f"cn=twin,{PEOPLE}", uid="alan2", more="employeeType: twin\n", password=PASSWORD),
        PERSON.format(dn=f"cn=twin2,{PEOPLE}", uid="alan3", more="employeeType: twin\n", password=PASSWORD),
    ]
    groups = {"lab": "grace", "root": "alan"}
    entries += [
        f"dn: cn={group},{GROUPS}\nobjectClass: groupOfNames\ncn: {group}\nmember: {dn(uid)}\n\n"
        for group, uid in groups.items()
    ]
    return "".join(entries)


@contextmanager
def slapd(folder: Path, *, others: str = "none") -> Iterator[Slapd]:
    """Start one on this machine's own address; `others` is what may be read without a password."""
    ca, _ = certificate(folder)[1], (folder / "data").mkdir()
    # A profile of AppArmor, where there is one, is for the program's own path and its usual directories.
    program = shutil.copy("/usr/sbin/slapd", folder / "slapd")
    configuration = folder / "slapd.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            certificate=ca,
            key=folder / "mail.key",
            suffix=SUFFIX,
            root=ROOT,
            root_password=ROOT_PASSWORD,
            others=others,
        ),
        encoding="utf-8",
    )
    add = [str(program), "-Tadd", "-f", str(configuration)]
    done = subprocess.run(add, input=people(), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    ports = _free(2)
    found = Slapd(folder, ca, *ports)
    with (folder / "log").open("wb") as log:
        command = [str(program), "-f", str(configuration), "-h", f"{found.url} {found.tls_url}", "-d", "0"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while not all(map(_answers, ports)):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(60)


def _free(number: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
