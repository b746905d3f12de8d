"""A MariaDB of the tests' own, with TLS, and the authority that signs its certificate."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "reader", "r3ader's"


@dataclass
class Mariadb:
    port: int
    folder: Path

    def run(self, *statements: str) -> None:
        """As its administrator."""
        connection = pymysql.connect(unix_socket=str(self.folder / "socket"), user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            for each in statements:
                cursor.execute(each)


def certificates(folder: Path) -> None:
    """`ca.crt`, and `server.crt` with `server.key` for this machine."""
    now = datetime.datetime.now(datetime.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    names = {each: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tests {each}")]) for each in keys}
    for name, key in keys.items():
        built = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if name == "ca":
            use = x509.KeyUsage(True, *[False] * 4, True, True, *[False] * 2)
            built = built.add_extension(use, critical=True)
        else:
            here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            built = built.add_extension(x509.SubjectAlternativeName(here), critical=False)
        made = built.sign(keys["ca"], hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        keys["server"].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def mariadb(folder: Path, port: int, tls: Path) -> Iterator[Mariadb]:
    """Start one with Debian's programs, on this machine's own address only."""
    folder.mkdir()
    data = folder / "data"
    # It does not start as root unless it is told to stay that.
    common = ["--no-defaults", f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
    made = subprocess.run(
        [
            "mariadb-install-db",
            *common,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    options = [
        f"--socket={folder}/socket",
        f"--pid-file={folder}/pid",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
        f"--ssl-ca={tls}/ca.crt",
        f"--ssl-cert={tls}/server.crt",
        f"--ssl-key={tls}/server.key",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/mariadbd", *common, *options], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not (folder / "socket").exists():
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        found = Mariadb(port, folder)
        word = PASSWORD.replace("'", "''")
        found.run(
            "CREATE DATABASE lab",
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{word}' REQUIRE SSL",
            f"CREATE USER plain@'%' IDENTIFIED BY '{word}'",
            f"GRANT ALL ON lab.* TO {USER}@'%'",
            "GRANT ALL ON lab.* TO plain@'%'",
        )
        yield found
    finally:
        process.terminate()
        process.wait(60)
