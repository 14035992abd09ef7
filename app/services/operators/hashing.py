"""Password hashes: argon2id with the library's parameters (RFC 9106, second recommended option: 64 MiB)."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.domain.passwords import normalized

_HASHER = PasswordHasher()


def hashed(password: str) -> str:
    """A hash with its parameters and salt. Takes some tens of milliseconds."""
    return _HASHER.hash(_encoded(password))


def fits(password: str, stored: str | None) -> bool:
    """Whether it is the password of this hash. Without a hash it takes as long, and the answer is no."""
    try:
        _HASHER.verify(stored or _of_no_account(), _encoded(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than a new one is."""
    return _HASHER.check_needs_rehash(stored)


@cache
def _of_no_account() -> str:
    return _HASHER.hash("the password of no account")


def _encoded(password: str) -> bytes:
    return normalized(password).encode("utf-8", "surrogatepass")
