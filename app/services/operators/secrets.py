"""Secrets of links and sessions: 256 random bits, of which only the SHA-256 is stored.

Why one hash without salt suffices: docs/decisions, "API tokens are hashed once, without salt".
"""

import hashlib
import secrets
from typing import Final

LINK: Final = "wll_"
SESSION: Final = "wls_"
TEAM_LINK: Final = "wlt_"
TEAM_SESSION: Final = "wlp_"
SECRET_BYTES: Final = 32
LENGTH: Final = len(LINK) + 43  # base64 of 32 bytes, without padding


def new_secret(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(SECRET_BYTES)


def has_form(secret: str, prefix: str) -> bool:
    return len(secret) == LENGTH and secret.startswith(prefix)


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
