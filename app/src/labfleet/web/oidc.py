"""An OpenID Connect provider as the web application speaks to it: authorization code, PKCE, state and nonce.

Nothing of what it says is believed before the ID token's signature is good by the provider's own keys.
"""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwk, jws
from joserfc.errors import JoseError
from structlog import get_logger

from labfleet.config import OidcSection, is_safe_url
from labfleet.errors import ConfigError, ProviderUnavailable, SignOnFailed
from labfleet.names import is_address
from labfleet.users.identities import Claimed

DISCOVERY = "/.well-known/openid-configuration"
BACK = "/sign-in/oidc/back"
# Signatures with a secret that both sides have, and none at all, are not among them.
ALGORITHMS = tuple(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512))
MAX_ANSWER = 1024 * 1024
MAX_TEXT = 255
_log = get_logger(__name__)


@dataclass(frozen=True)
class Begun:
    """A sign-in that is under way, as the browser's own cookie keeps it meanwhile."""

    state: str
    nonce: str
    verifier: str
    next: str
    # Whether the user that is signed in wants to link the account.
    link: bool
    at: float

    @classmethod
    def new(cls, target: str, *, link: bool) -> Self:
        """Three values that nobody guesses."""
        state, nonce = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        return cls(state, nonce, secrets.token_urlsafe(48), target, link, time.time())

    def kept(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class _Cached:
    """A document of the provider; an old one serves on while the provider is away."""

    def __init__(self, fetch: Callable[[], dict[str, Any]]) -> None:
        self._fetch = fetch
        self._lock = Lock()
        self._value: dict[str, Any] | None = None
        self._at = 0.0

    def get(self, seconds: float) -> dict[str, Any]:
        """What is at most so old, if the provider answers."""
        with self._lock:
            if self._value is None or time.monotonic() - self._at >= seconds:
                self._renew()
            if self._value is None:  # pragma: no cover - _renew raises where there is no value
                raise ProviderUnavailable
            return self._value

    def _renew(self) -> None:
        try:
            self._value = self._fetch()
        except ProviderUnavailable:
            if self._value is None:
                raise
        # Also after a failure: somebody who signs in waits for it once, not everybody.
        self._at = time.monotonic()


class Provider:
    """The provider of `[oidc]`. Its methods raise `ProviderUnavailable` or `SignOnFailed`."""

    def __init__(self, section: OidcSection, secret: str, public_url: str) -> None:
        self.section = section
        self._secret = secret
        self._back = public_url.rstrip("/") + BACK
        self._left = public_url.rstrip("/") + "/sign-in"
        self._http = httpx.Client(
            verify=_trust(section.ca_file), timeout=section.timeout_seconds, trust_env=False
        )
        self._document = _Cached(self._discover)
        self._keys = _Cached(lambda: self._ask("GET", self._endpoint("jwks_uri")))

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def way_there(self, begun: Begun) -> str:
        """The address at the provider to which the browser is sent."""
        return str(
            prepare_grant_uri(
                self._endpoint("authorization_endpoint"),
                client_id=self.section.client_id,
                response_type="code",
                redirect_uri=self._back,
                scope=" ".join(self.section.scopes),
                state=begun.state,
                nonce=begun.nonce,
                code_challenge=create_s256_code_challenge(begun.verifier),
                code_challenge_method="S256",
            )
        )

    def way_out(self) -> str | None:
        """Where the browser ends its session at the provider too, if the provider has such a place."""
        if "end_session_endpoint" not in self._document.get(self.section.metadata_seconds):
            return None
        there = httpx.URL(self._endpoint("end_session_endpoint"))
        more = {"client_id": self.section.client_id, "post_logout_redirect_uri": self._left}
        return str(there.copy_merge_params(more))

    def who(self, begun: Begun, answer: Mapping[str, str]) -> Claimed:
        """Who has signed in, by what the browser has brought back."""
        if answer.get("iss", self.section.issuer) != self.section.issuer:
            raise SignOnFailed("The answer is of another provider.")
        if "error" in answer:
            raise _said_no(answer["error"])
        if not answer.get("code"):
            raise SignOnFailed("The provider's answer has no code in it.")
        tokens = self._redeem(begun, answer["code"])
        claims = self._verified(tokens, begun.nonce)
        return self._claimed(self._with_userinfo(claims, tokens))

    def _redeem(self, begun: Begun, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": begun.verifier,
        }
        known = self._document.get(self.section.metadata_seconds)
        ways = known.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        auth = None
        if "client_secret_basic" in ways:
            auth = httpx.BasicAuth(_quoted(self.section.client_id), _quoted(self._secret))
        else:
            form |= {"client_id": self.section.client_id, "client_secret": self._secret}
        return self._ask("POST", self._endpoint("token_endpoint"), data=form, auth=auth)

    def _verified(self, tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        token = tokens.get("id_token")
        if not isinstance(token, str):
            raise SignOnFailed("The provider has sent no ID token.")
        header, claims = self._signed(token)
        self._check_clock(claims)
        try:
            CodeIDToken(
                claims,
                header,
                options={"iss": {"value": self.section.issuer}, "aud": {"value": self.section.client_id}},
                params={
                    "nonce": nonce,
                    "client_id": self.section.client_id,
                    "access_token": tokens.get("access_token"),
                },
            ).validate(leeway=self.section.clock_skew_seconds)
        except (JoseError, TypeError, ValueError) as error:
            _log.warning("ID token refused", error=str(error))
            raise SignOnFailed("The provider's ID token is not for this sign-in.") from None
        return claims

    def _signed(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token whose signature is good; keys that are unknown are asked for once."""
        error: Exception | None = None
        for seconds in (self.section.metadata_seconds, self.section.keys_seconds):
            choose = partial(_fitting, keys=_usable(self._keys.get(seconds)))
            try:
                found = jws.deserialize_compact(token, choose, list(ALGORITHMS))
                claims = json.loads(found.payload)
            except (JoseError, LookupError, ValueError, TypeError) as failure:
                error = failure
                continue
            if isinstance(claims, dict):
                return dict(found.headers()), claims
        _log.warning("ID token refused", error=str(error))
        raise SignOnFailed("The ID token is not signed by the provider's keys.") from None

    def _check_clock(self, claims: Mapping[str, Any]) -> None:
        now, skew = time.time(), self.section.clock_skew_seconds
        made, ends = claims.get("iat"), claims.get("exp")
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in (made, ends)):
            raise SignOnFailed("The provider's ID token does not say from when to when it is good.")
        early, late = float(made or 0) - now - skew, now - skew - float(ends or 0)
        if early <= 0 and late <= 0:
            return
        word = "ahead of" if early > 0 else "behind"
        _log.warning("clocks differ", iat=made, exp=ends, now=now)
        raise SignOnFailed(
            f"The provider's clock is {word} ours by more than {skew:.0f} seconds: nothing it says counts.",
            hint="Begin again. If it stays like this, an admin should look at the webserver's clock "
            "('timedatectl') and the provider's.",
        )

    def _with_userinfo(self, claims: dict[str, Any], tokens: Mapping[str, Any]) -> dict[str, Any]:
        """The claims, with those of the userinfo endpoint where one is wanted that the ID token lacks."""
        rules = self.section
        wanted = [rules.name_claim, rules.mail_claim]
        wanted += [rules.groups_claim] if rules.allowed_groups or rules.admin_groups else []
        known = self._document.get(rules.metadata_seconds)
        if all(_deep(claims, name) is not None for name in wanted) or "userinfo_endpoint" not in known:
            return claims
        header = {"Authorization": f"Bearer {tokens.get('access_token')}"}
        more = self._ask("GET", self._endpoint("userinfo_endpoint"), headers=header)
        if more.get("sub") != claims.get("sub"):
            raise SignOnFailed("The provider speaks of two people.")
        return {**more, **claims}

    def _claimed(self, claims: Mapping[str, Any]) -> Claimed:
        rules, subject = self.section, claims["sub"]
        name = _deep(claims, rules.name_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_TEXT or "\x00" in subject:
            raise SignOnFailed("The provider does not say who you are.")
        if not isinstance(name, str) or not name.strip() or "\x00" in name:
            raise SignOnFailed(
                f"The provider does not say your '{rules.name_claim}'.",
                hint=_ADMIN.format(
                    "the provider gives it to Labfleet, or webserver_oidc_name_claim names another"
                ),
            )
        mail, verified = _deep(claims, rules.mail_claim), claims.get("email_verified")
        good = isinstance(mail, str) and is_address(mail) and verified in (True, "true")
        return Claimed(
            issuer=rules.issuer,
            subject=subject,
            name=name.strip()[:MAX_TEXT],
            mail=mail if good else None,
            groups=_words(_deep(claims, rules.groups_claim)),
        )

    def _discover(self) -> dict[str, Any]:
        found = self._ask("GET", self.section.issuer.rstrip("/") + DISCOVERY)
        if found.get("issuer") != self.section.issuer:
            _log.error("the provider has another name", issuer=found.get("issuer"), set=self.section.issuer)
            raise ProviderUnavailable(
                "The provider does not call itself as it is called here.",
                hint=_ADMIN.format("webserver_oidc_issuer is what 'issuer' in its discovery document says"),
            )
        return found

    def _endpoint(self, name: str) -> str:
        found = self._document.get(self.section.metadata_seconds).get(name)
        if not isinstance(found, str) or not is_safe_url(found):
            _log.error("no endpoint of the provider", endpoint=name, value=found)
            raise ProviderUnavailable(f"The provider has no {name} that can be reached safely.")
        return found

    def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """The JSON that the provider answers, within the time and size that it may take."""
        until, content = time.monotonic() + self.section.timeout_seconds, b""
        options["headers"] = {"Accept": "application/json", **options.get("headers", {})}
        try:
            with self._http.stream(method, url, **options) as answer:
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > MAX_ANSWER or time.monotonic() > until:
                        raise _unavailable(url, "too much, or too slow")
        except (httpx.HTTPError, OSError) as error:
            raise _unavailable(url, str(error) or type(error).__name__) from None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if method == "POST" and answer.is_client_error:
            said = found.get("error") if isinstance(found, dict) else None
            _log.warning("the provider refused the code", status=answer.status_code, error=said)
            raise _refused_code(said)
        if not answer.is_success or not isinstance(found, dict):
            raise _unavailable(url, f"status {answer.status_code}")
        return found


_ADMIN = "Tell an admin of this Labfleet: it should be seen to it that {}."


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise ConfigError(f"[oidc] ca_file: {ca_file} can't be read: {error}.") from None


def _unavailable(url: str, why: str) -> ProviderUnavailable:
    _log.error("the provider does not answer as it should", url=url, error=why)
    return ProviderUnavailable("The provider that should say who you are does not answer as it should.")


def _refused_code(said: object) -> SignOnFailed:
    if said == "invalid_client":
        return SignOnFailed(
            "The provider does not know this Labfleet by its secret.",
            hint=_ADMIN.format("webserver_oidc_client_id and oidc_client_secret are those of the provider"),
        )
    return SignOnFailed(
        "The provider has refused the code of this sign-in: it may be too old, or used already."
    )


def _said_no(error: str) -> SignOnFailed:
    if error == "access_denied":
        return SignOnFailed(
            "The sign-in was cancelled, or the provider does not let you use this Labfleet.",
            hint="Begin again. If the provider refuses, whoever looks after it can let you in.",
        )
    word = error if error.replace("_", "").isalnum() and error.isascii() and len(error) < 50 else "an error"
    return SignOnFailed(f"The provider has ended the sign-in: {word}.")


def _quoted(text: str) -> str:
    """As RFC 6749, 2.3.1 wants the parts of the header."""
    return httpx.QueryParams({"": text}).__str__()[1:]


def _usable(document: Mapping[str, Any]) -> list[Any]:
    """The keys that can sign, without those of kinds that we do not know."""
    found: list[Any] = []
    for one in document.get("keys", []):
        try:
            if one.get("use", "sig") == "sig" and one.get("kty") in {"RSA", "EC"}:
                found.append(jwk.import_key(one))
        except (JoseError, ValueError, TypeError, AttributeError):
            continue
    return found


def _fitting(seen: Any, *, keys: list[Any]) -> Any:
    """The key that the token names; without a name the only one of the kind."""
    header = seen.headers()
    kind = "EC" if str(header.get("alg", "")).startswith("ES") else "RSA"
    fitting = [one for one in keys if one.key_type == kind and header.get("kid") in (None, one.kid)]
    if len(fitting) != 1:
        raise LookupError(f"{len(fitting)} keys fit")
    return fitting[0]


def _deep(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, or the one that lies where its dots lead."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _words(value: Any) -> frozenset[str]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(one for one in values if isinstance(one, str))
