"""A real Chromium, driven by the W3C WebDriver protocol that Debian's chromedriver speaks."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .broker import answers
from .lab import Lab
from .waiting import wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SIGNED_OUT = "return !!document.querySelector('input[type=password]')"
"""A script: whether the page asks for a password."""


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self.driver = driver
        self.session = session

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command; its value."""
        url = f"/session/{self.session}/{path}"
        answer = self.driver.request(method, url, json=body if method == "POST" else None)
        value = answer.json()["value"]
        assert answer.status_code == 200, f"{path}: {value}"
        return value

    def open(self, url: str) -> None:
        """Go there and wait until it is loaded."""
        self.call("POST", "url", {"url": url})

    @property
    def url(self) -> str:
        """Where the window is."""
        return str(self.call("GET", "url"))

    def find(self, css: str) -> str:
        """The first element that matches."""
        return str(self.call("POST", "element", {"using": "css selector", "value": css})[ELEMENT])

    def type(self, css: str, text: str) -> None:
        """Type into a field."""
        self.call("POST", f"element/{self.find(css)}/value", {"text": text})

    def click(self, css: str) -> None:
        """Click, as a person would: the element has to be visible."""
        self.call("POST", f"element/{self.find(css)}/click", {})

    def script(self, code: str) -> Any:
        """The value of a script's `return`."""
        return self.call("POST", "execute/sync", {"script": code, "args": []})

    def later(self, code: str) -> Any:
        """What a script gives to the function `done` of its own."""
        return self.call(
            "POST", "execute/async", {"script": f"const done = arguments[0]; {code}", "args": []}
        )

    def press(self, keys: str) -> None:
        """Press keys one after the other, whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of Chromium's own protocol."""
        return self.call("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    @contextmanager
    def phone(self) -> Iterator[None]:
        """As small as a phone, meanwhile."""
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        try:
            yield
        finally:
            self.devtools("Emulation.clearDeviceMetricsOverride")

    @contextmanager
    def dark(self) -> Iterator[None]:
        """With a person who prefers dark pages, meanwhile."""
        wish = [{"name": "prefers-color-scheme", "value": "dark"}]
        self.devtools("Emulation.setEmulatedMedia", features=wish)
        try:
            yield
        finally:
            self.devtools("Emulation.setEmulatedMedia", features=[])

    @property
    def text(self) -> str:
        """What the page says."""
        return str(self.script("return document.body.innerText"))

    def screenshot(self, file: Path) -> bytes:
        """A picture of the whole page, kept in `file`."""
        self.call("POST", "window/rect", {"width": 1280, "height": 900})
        height = self.script("return Math.min(4000, Math.max(900, document.documentElement.scrollHeight))")
        self.call("POST", "window/rect", {"width": 1280, "height": height})
        content = base64.b64decode(self.call("GET", "screenshot"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return content

    def complaints(self) -> list[str]:
        """What the console holds of errors."""
        log = self.call("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


@contextmanager
def chromium(profile: Path, key_digest: str) -> Iterator[Browser]:
    """A headless Chromium with a profile of its own that also trusts the key of `key_digest`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: answers(port), 60, "chromedriver")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            answer = http.post(
                "/session", json={"capabilities": {"alwaysMatch": wishes(profile, key_digest)}}
            )
            assert answer.status_code == 200, answer.text
            browser = Browser(http, answer.json()["value"]["sessionId"])
            yield browser
            http.delete(f"/session/{browser.session}")
    finally:
        driver.terminate()
        driver.wait(10)


def wishes(profile: Path, key_digest: str) -> dict[str, Any]:
    """What the browser should be."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,900"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += [f"--user-data-dir={profile}", f"--ignore-certificate-errors-spki-list={key_digest}"]
    return {
        "browserName": "chrome",
        "goog:chromeOptions": {"args": flags},
        "goog:loggingPrefs": {"browser": "ALL"},
    }


def key_digest(lab: Lab) -> str:
    """The SHA-256 of the webserver's public key, as Chromium wants it. Other tests check the authority."""
    file = lab.secrets / "tls" / f"{lab.machine('webserver').name}.crt"
    key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def sign_in(browser: Browser, user: str, password: str) -> None:
    """Fill in the page that asks for a password, and send it."""
    browser.type("input[name=user]", user)
    browser.type("input[type=password]", password)
    browser.click("form button[type=submit], form button:not([type])")
