"""OpenID Connect providers on loopback: a strict one that can be made to lie, and one that others wrote."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwk, jwt

CLIENT, SECRET = "labfleet-of-the-tests", "a secret: with/odd characters"


class OidcServer:
    """`with OidcServer(context) as provider`: lets in `person` at once, and checks what a provider checks.

    `changes` are put into each ID token (None takes a claim away), `more` is what userinfo adds; `error` is
    answered in place of a code.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.person: dict[str, Any] = {"sub": "p-1", "preferred_username": "grace", "email": "grace@lab.test"}
        self.changes: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.error = ""
        self.algorithm = "RS256"
        self.asked: list[str] = []
        self.broken = False
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: set[str] = set()
        self.rotate()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.answer(self, "")

            def do_POST(self) -> None:
                outer.answer(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.issuer = f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def rotate(self) -> None:
        """Sign with another key from now on, and publish that alone."""
        self.key = jwk.RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})
        self.published: list[Any] = [self.key.as_dict(private=False)]

    def answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        """One request."""
        path, query = urlsplit(handler.path).path, _flat(urlsplit(handler.path).query)
        self.asked.append(path)
        if self.broken:
            return _send(handler, 500, {})
        if path == "/authorize":
            return self._authorize(handler, query)
        if path == "/token":
            return self._token(handler, _flat(body))
        if path == "/userinfo":
            known = handler.headers.get("Authorization", "").removeprefix("Bearer ") in self._tokens
            return _send(handler, 200 if known else 401, {"sub": self.person["sub"], **self.more})
        if path == "/keys":
            return _send(handler, 200, {"keys": self.published})
        if path == "/.well-known/openid-configuration":
            return _send(handler, 200, self._described())
        return _send(handler, 404, {})

    def _described(self) -> dict[str, Any]:
        places = {
            "authorization_endpoint": "authorize",
            "token_endpoint": "token",
            "userinfo_endpoint": "userinfo",
            "jwks_uri": "keys",
            "end_session_endpoint": "leave",
        }
        found = {name: f"{self.issuer}/{path}" for name, path in places.items()}
        return {"issuer": self.issuer, **found, **self.document}

    def _authorize(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        good = (
            query["client_id"] == CLIENT
            and query["response_type"] == "code"
            and "openid" in query["scope"].split()
            and query["code_challenge_method"] == "S256"
            and len(query["state"]) > 20
            and len(query["nonce"]) > 20
        )
        if not good:
            return _send(handler, 400, {"error": "invalid_request"})
        code = secrets.token_urlsafe()
        self._codes[code] = query
        told = {"error": self.error} if self.error else {"code": code}
        handler.send_response(302)
        handler.send_header(
            "Location", query["redirect_uri"] + "?" + urlencode({**told, "state": query["state"]})
        )
        handler.send_header("Content-Length", "0")
        return handler.end_headers()

    def _token(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        asked = self._codes.pop(form.get("code", ""), None)
        if not _is_client(handler.headers.get("Authorization", ""), form):
            return _send(handler, 401, {"error": "invalid_client"})
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = _packed(digest)
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return _send(handler, 400, {"error": "invalid_grant"})
        token = secrets.token_urlsafe()
        self._tokens.add(token)
        answer = {"access_token": token, "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}
        return _send(handler, 200, answer)

    def id_token(self, nonce: str) -> str:
        """A token of the person, with the lies that are asked for."""
        now = int(time.time())
        usual = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.person,
        }
        claims = {key: value for key, value in {**usual, **self.changes}.items() if value is not None}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        if self.algorithm in {"none", "HS256"}:
            parts = [_packed(json.dumps(one).encode()) for one in (header, claims)]
            # As a secret what everybody can read: the public key.
            public = self.key.as_pem(private=False)
            signature = (
                hmac.digest(public, ".".join(parts).encode(), "sha256") if self.algorithm != "none" else b""
            )
            return ".".join([*parts, _packed(signature)])
        return jwt.encode(header, claims, self.key, [self.algorithm])


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _is_client(header: str, form: dict[str, str]) -> bool:
    if not header:
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return (_flat(f"v={user}")["v"], _flat(f"v={password}")["v"]) == (CLIENT, SECRET)


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _send(handler: BaseHTTPRequestHandler, status: int, document: dict[str, Any]) -> None:
    content = json.dumps(document).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def provider_of_others(folder: Path, *people: dict[str, Any]) -> Iterator[str]:
    """The issuer of a running oidc-provider-mock, in a process of its own, that knows these people."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    command += [part for person in people for part in ("--user-claims", json.dumps(person))]
    with (folder / "provider.log").open("w") as log:
        environment = {**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            issuer = f"http://127.0.0.1:{port}"
            _wait(issuer, process, folder / "provider.log")
            yield issuer
        finally:
            process.terminate()
            process.wait(30)


def _wait(issuer: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())
