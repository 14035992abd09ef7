"""ID tokens: signature and claims (OpenID Connect Core, section 3.1.3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from authlib.common.errors import AuthlibBaseError
from authlib.oidc.core import CodeIDToken
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from app.errors import SignInRefused

ALGORITHMS: Final = {"RS256": "RSA", "ES256": "EC"}  # and the kind of their keys
LEEWAY_SECONDS: Final = 60  # for clocks that differ
MAX_TOKEN: Final = 64 * 1024  # characters
MAX_KEYS: Final = 100
_SHORTEST_RSA: Final = 2048  # bits

Key = RSAKey | ECKey


@dataclass(frozen=True, slots=True)
class Expected:
    """The issuer, client and request that a token has to be for."""

    issuer: str
    client_id: str
    nonce: str
    access_token: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a token that says which key has signed it. Nothing of it is believed before that is verified."""

    algorithm: str
    key_id: str | None


def header_of(token: str) -> Header:
    """The header of a token. Raises SignInRefused, also for algorithms other than ALGORITHMS."""
    if len(token) > MAX_TOKEN:
        raise SignInRefused("the ID token is too long")
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError, RecursionError):
        raise SignInRefused("the ID token is no signed JSON Web Token") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise SignInRefused(f"the ID token is not signed with {' or '.join(ALGORITHMS)}")
    return Header(algorithm, key_id if isinstance(key_id, str) else None)


def keys_of(document: dict[str, Any]) -> list[Key]:
    """The usable signing keys of a JWK set (RFC 7517); others are passed over."""
    listed = document.get("keys")
    found: list[Key] = []
    for entry in listed[:MAX_KEYS] if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("kty") not in ALGORITHMS.values() or entry.get("alg", "RS256") not in ALGORITHMS:
            continue
        try:
            key = jwk.import_key(entry)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if _is_strong(key):
            found.append(key)  # type: ignore[arg-type]  # of one of the two kinds
    return found


def key_for(header: Header, keys: Sequence[Key]) -> Key | None:
    """The key that a header names; without a name, the only one of the algorithm's kind."""
    fitting = [key for key in keys if key.key_type == ALGORITHMS[header.algorithm]]
    if header.key_id is not None:
        return next((key for key in fitting if key.kid == header.key_id), None)
    return fitting[0] if len(fitting) == 1 else None


def verified(token: str, header: Header, key: Key, expected: Expected, *, now: datetime) -> dict[str, Any]:
    """The claims of a token. Raises SignInRefused with the check that failed."""
    try:
        decoded = jwt.decode(token, key, algorithms=[header.algorithm])
    except (JoseError, ValueError, TypeError, RecursionError):
        raise SignInRefused("the ID token's signature is wrong") from None
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        {
            "iss": {"essential": True, "value": expected.issuer},
            "aud": {"essential": True, "value": expected.client_id},
            "exp": {"essential": True},
            "iat": {"essential": True},
            "nonce": {"essential": True, "value": expected.nonce},
        },
        {"nonce": expected.nonce, "client_id": expected.client_id, "access_token": expected.access_token},
    )
    try:
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY_SECONDS)
    except (AuthlibBaseError, JoseError) as failed:  # of each kind some
        raise SignInRefused(f"the ID token is not valid here ({failed.error}: {failed.description})") from None
    except (TypeError, ValueError, RecursionError):
        raise SignInRefused("the ID token's claims are not of the right types") from None
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise SignInRefused("the ID token names no subject")
    return dict(claims)


def _is_strong(key: object) -> bool:
    if isinstance(key, RSAKey):
        return bool(key.public_key.key_size >= _SHORTEST_RSA)
    return isinstance(key, ECKey) and key.curve_name == "P-256"
