"""Signatures of what teams receive over HTTP, by Standard Webhooks 1.0.0 (symmetric, `v1`), without I/O.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from app.errors import InvalidInput

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
SHORTEST, LONGEST = 24, 64  # bytes of a secret, as the specification asks for


def write_secret(key: bytes) -> str:
    """A key as `whsec_` and base64, the form of the official libraries."""
    return PREFIX + base64.b64encode(key).decode()


def read_secret(text: str) -> bytes:
    """The key of a `whsec_…` secret. Raises InvalidInput, never with a part of it."""
    encoded = text.strip()
    if not encoded.startswith(PREFIX):
        raise InvalidInput(f"a signing secret starts with {PREFIX}")
    try:
        key = base64.b64decode(encoded.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"what follows {PREFIX} in a signing secret is base64") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise InvalidInput(f"a signing secret has {SHORTEST} to {LONGEST} bytes, this one {len(key)}")
    return key


def signed_headers(body: bytes, *, message_id: str, timestamp: int, keys: Sequence[bytes]) -> Mapping[str, str]:
    """The three signature headers. `timestamp`: unix seconds of this attempt. Each of several keys (rotation) signs.

    `message_id` is the same for every attempt, so that receivers recognise repeats. Raises ValueError without a key.
    """
    if not keys:
        raise ValueError("nothing leaves unsigned")
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
