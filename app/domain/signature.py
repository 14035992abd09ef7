"""Nango's webhook signature, over raw bytes and without I/O (Nango contract: Signatures).

Only the HMAC header counts. The older `X-Nango-Signature`, a plain hash of key and body, is open to length extension
and ignored. The signature has no timestamp: the caller recognises replays by `fingerprint`.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

HEADER: Final = "x-nango-hmac-sha256"


def sign(body: bytes, key: str) -> str:
    """Lower-case hex HMAC-SHA256 of the exact body, keyed with the UTF-8 bytes of the signing key.

    (Nango contract: Signatures)
    """
    return hmac.digest(key.encode(), body, "sha256").hex()


def matching_key(body: bytes, signature: str | None, keys: Sequence[str]) -> int | None:
    """The index of the live key that signed `body`; None without a match.

    Several keys are live during a rotation, as deliveries under both interleave for minutes
    (Nango contract: Signatures). Every key is tried even after a match, so that the time taken does not tell the key.
    `signature`: the header as it arrived; missing, empty and non-ASCII values match no key.
    """
    received = (signature or "").encode("utf-8", "replace")
    found = None
    for index, key in enumerate(keys):
        if hmac.compare_digest(sign(body, key).encode(), received) and found is None:
            found = index
    return found


def fingerprint(environment: str, body: bytes) -> bytes:
    """SHA-256 that identifies a delivery: retries are byte-identical, and Nango sends no delivery id.

    (Nango contract: Order and duplicates)

    The length of the environment's name comes first, so that no other name and body give the same input.
    """
    name = environment.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(name).to_bytes(8) + name + body).digest()
