"""The provider: its metadata and keys, and the authorization code flow with PKCE.

Metadata and keys are fetched when they are first needed, and kept for an hour. A token of an unknown key has the keys
fetched again, at most once in a while: a provider may change its keys, and made-up tokens must not make it work.
"""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from app.errors import ProviderUnavailable, SignInRefused
from app.openid.fetching import Fetcher
from app.openid.id_tokens import Expected, Header, Key, header_of, key_for, keys_of, verified
from app.openid.urls import is_safe

KEPT_SECONDS: Final = 3600.0
KEYS_AGAIN_SECONDS: Final = 30.0
MAX_CODE: Final = 4096
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Client:
    """Waylink as the provider knows it."""

    issuer: str
    client_id: str
    secret: str | None = field(repr=False)
    scopes: str
    groups_claim: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in of one browser, which holds `seed` (256 random bits) in a cookie; the rest is derived from it."""

    seed: str = field(repr=False)

    @property
    def state(self) -> str:
        return self._derived("state")

    @property
    def nonce(self) -> str:
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """PKCE's code verifier (RFC 7636)."""
        return self._derived("verifier")

    def _derived(self, use: str) -> str:
        made = hmac.digest(self.seed.encode("utf-8", "surrogatepass"), use.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the provider shows them: a subject of the issuer, a name, and the groups."""

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The provider's description of itself (OpenID Connect Discovery, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    takes_basic: bool  # the client's secret in a header; otherwise in the form
    names_issuer: bool  # in its answers (RFC 9207)


class Provider:
    """One provider. Its methods wait for the network, and may be called by several threads."""

    def __init__(self, client: Client, fetcher: Fetcher) -> None:
        self._client, self._fetcher = client, fetcher
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self._keys: list[Key] = []
        self._metadata_until = self._keys_until = self._keys_again_at = 0.0

    @property
    def name(self) -> str:
        """The provider's host, for people."""
        return urlsplit(self._client.issuer).netloc

    @property
    def groups_claim(self) -> str:
        return self._client.groups_claim

    def close(self) -> None:
        self._fetcher.close()

    def authorization_url(self, attempt: Attempt, *, redirect_uri: str) -> str:
        """The URL at which the browser signs in. Raises ProviderUnavailable."""
        scopes = self._client.scopes.split()
        url: str = prepare_grant_uri(
            self.metadata().authorization_endpoint,
            client_id=self._client.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=" ".join(scopes if "openid" in scopes else ["openid", *scopes]),
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    def person(self, attempt: Attempt, answer: Mapping[str, str], *, redirect_uri: str, now: datetime) -> Person:
        """The person who signed in, by the query of the redirect. Raises SignInRefused, ProviderUnavailable."""
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SignInRefused("it was not begun by this browser, or too long ago")
        metadata = self.metadata()
        if (metadata.names_issuer or "iss" in answer) and answer.get("iss") != metadata.issuer:
            raise SignInRefused("the answer is not the provider's")
        if "error" in answer:
            raise SignInRefused(f"the identity provider says {_word(answer['error'])}")
        code = answer.get("code", "")
        if not 0 < len(code) <= MAX_CODE:
            raise SignInRefused("the identity provider sent no code")
        tokens = self._exchanged(code, attempt, metadata, redirect_uri)
        token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(token, str):
            raise SignInRefused("the identity provider sent no ID token")
        bearer = access_token if isinstance(access_token, str) else None
        header = header_of(token)
        expected = Expected(metadata.issuer, self._client.client_id, attempt.nonce, bearer)
        claims = verified(token, header, self._key(header, metadata), expected, now=now)
        if self._client.groups_claim not in claims and metadata.userinfo_endpoint and bearer:
            told = self._fetcher.get(metadata.userinfo_endpoint, bearer=bearer)
            if told.get("sub") == claims["sub"]:  # or another person's (OpenID Connect Core, section 5.3.2)
                claims = {**told, **claims}
        return _person(claims, metadata.issuer, self._client.groups_claim)

    def sign_out_url(self, *, back_to: str) -> str | None:
        """The URL at which a browser signs out of the provider, too; None where it offers no such place or is away."""
        try:
            place = self.metadata().end_session_endpoint
        except ProviderUnavailable:
            return None
        if place is None:
            return None
        asked = [("client_id", self._client.client_id), ("post_logout_redirect_uri", back_to)]
        url: str = add_params_to_uri(place, asked)
        return url

    def metadata(self) -> Metadata:
        """The provider's metadata. Raises ProviderUnavailable."""
        with self._lock:
            if self._metadata is None or time.monotonic() >= self._metadata_until:
                document = self._fetcher.get(f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration")
                self._metadata = _metadata(document, self._client.issuer)
                self._metadata_until = time.monotonic() + KEPT_SECONDS
            return self._metadata

    def count_keys(self) -> int:
        """The number of usable signing keys that the provider publishes now. Raises ProviderUnavailable."""
        return len(keys_of(self._fetcher.get(self.metadata().jwks_uri)))

    def _exchanged(self, code: str, attempt: Attempt, metadata: Metadata, redirect_uri: str) -> dict[str, Any]:
        client = self._client
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        basic = None
        if client.secret is not None and metadata.takes_basic:
            basic = (quote(client.client_id, safe=""), quote(client.secret, safe=""))  # RFC 6749, section 2.3.1
        else:
            form["client_id"] = client.client_id
            if client.secret is not None:
                form["client_secret"] = client.secret
        status, answer = self._fetcher.post(metadata.token_endpoint, form, basic=basic)
        if status != 200:
            raise SignInRefused(f"the identity provider does not accept the code ({_word(answer.get('error'))})")
        return answer

    def _key(self, header: Header, metadata: Metadata) -> Key:
        with self._lock:
            now = time.monotonic()
            key = key_for(header, self._keys) if now < self._keys_until else None
            if key is None and now >= self._keys_again_at:
                self._keys_again_at = now + KEYS_AGAIN_SECONDS
                self._keys = keys_of(self._fetcher.get(metadata.jwks_uri))
                self._keys_until = now + KEPT_SECONDS
                key = key_for(header, self._keys)
        if key is None:
            raise SignInRefused("the ID token is signed with a key that the provider does not publish")
        return key


def _metadata(document: Mapping[str, Any], issuer: str) -> Metadata:
    """Raises ProviderUnavailable."""
    named = document.get("issuer")
    if not isinstance(named, str) or named.rstrip("/") != issuer.rstrip("/"):
        raise ProviderUnavailable(f"its metadata is of the issuer {_word(named)}, and not of WAYLINK_OIDC_ISSUER")
    urls = {name: document.get(name) for name in (*_ENDPOINTS, "userinfo_endpoint", "end_session_endpoint")}
    for name, url in urls.items():
        if (url is not None or name in _ENDPOINTS) and not (isinstance(url, str) and is_safe(url)):
            raise ProviderUnavailable(f"its metadata has no usable {name}")
    methods = document.get("token_endpoint_auth_methods_supported")
    takes_basic = not isinstance(methods, list) or "client_secret_basic" in methods
    names_issuer = document.get("authorization_response_iss_parameter_supported") is True
    return Metadata(named, **urls, takes_basic=takes_basic, names_issuer=names_issuer)  # type: ignore[arg-type]


def _person(claims: Mapping[str, Any], issuer: str, groups_claim: str) -> Person:
    listed = claims.get(groups_claim, [])
    groups = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    names = [claims.get(name) for name in ("preferred_username", "email", "sub")]
    name = next(name for name in names if isinstance(name, str) and name.strip())
    return Person(issuer, claims["sub"], name, tuple(group for group in groups if isinstance(group, str)))


def _word(text: object) -> str:
    """A short text from outside, for a message."""
    return repr(text[:100]) if isinstance(text, str) else "nothing that can be read"
