"""Nango's webhook signature, over raw bytes and without I/O (Nango contract: Signatures).

Only the HMAC header counts. The older `X-Nango-Signature`, a plain hash of key and body, can be extended by anyone who
saw one, so it is never looked at. The signature has no timestamp: replays are for the caller to recognise, by
`fingerprint`.
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
    """Index of the live key that signed `body`, or None when none did.

    Several keys are live while one is rotated, as deliveries under both interleave for minutes
    (Nango contract: Signatures). Every key is tried even after a match, so the time taken does not tell which one it
    was. `signature` is the header as it arrived: a missing, empty or non-ASCII value is simply no match.
    """
    given = (signature or "").encode("utf-8", "replace")
    found = None
    for index, key in enumerate(keys):
        if hmac.compare_digest(sign(body, key).encode(), given) and found is None:
            found = index
    return found


def fingerprint(environment: str, body: bytes) -> bytes:
    """SHA-256 that names one delivery: retries are byte-identical, and Nango sends no delivery id.

    (Nango contract: Order and duplicates)

    The length of the environment's name goes in front, so no name and body can be cut into another name and body.
    """
    name = environment.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(name).to_bytes(8) + name + body).digest()
