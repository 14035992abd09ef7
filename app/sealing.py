"""Encryption of Waylink's own secrets with WAYLINK_SECRET_KEY, which is not in the database (promise 7).

A sealed value contains its purpose, so a value copied to another row does not open.
"""

import base64
import binascii
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.config.nango_environment import split_keys
from app.errors import ConfigurationError, Problem, Sealed
from app.text_input import read_text

KEY_BYTES: Final = 32
KEY_FILE: Final = "secret.key"  # in the data folder, for the embedded default
EXAMPLE: Final = "what `waylink secrets new-key` prints"


def new_key() -> str:
    """A new key in the form of WAYLINK_SECRET_KEY."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def read_keys(text: str) -> tuple[bytes, ...]:
    """Keys separated by commas or white space, newest first, in either alphabet of base64.

    Raises ValueError, which holds no part of a key.
    """
    keys = []
    for number, part in enumerate(split_keys(text), 1):
        try:
            key = base64.b64decode(part.translate(_STANDARD), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"key {number} is not the base64 of {KEY_BYTES} bytes")
        keys.append(base64.urlsafe_b64encode(key))
    if not keys:
        raise ValueError("holds no key")
    return tuple(keys)


_STANDARD: Final = str.maketrans("-_", "+/")


@dataclass(slots=True)
class Sealer:
    """Seals with the newest key and opens with any. Threads may share it.

    read: returns the keys, newest first; called again when a value does not open or is sealed, so that a key file may
    change without a restart. Raises ConfigurationError where there are none.
    """

    read: Callable[[], Sequence[bytes]] = field(repr=False)
    _known: tuple[bytes, ...] = field(default=(), init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def seal(self, value: str, *, purpose: str) -> bytes:
        """Encrypt a value for one purpose, such as `broker crm/jobs`."""
        return Fernet(self._keys(anew=True)[0]).encrypt(f"{purpose}\0{value}".encode())

    def open(self, sealed: bytes, *, purpose: str) -> str:
        """The decrypted value. Raises Sealed with the purpose where no key fits, or where it was sealed for another
        purpose.
        """
        for anew in (False, True):
            keys = self._keys(anew=anew)
            with suppress(InvalidToken):
                found, _, value = MultiFernet([Fernet(key) for key in keys]).decrypt(sealed).decode().partition("\0")
                if found == purpose:
                    return value
                break
        raise Sealed(f"the {purpose}")

    def with_newest(self, sealed: bytes, *, purpose: str) -> bytes | None:
        """The same value sealed with the newest key; None where it already is. Raises Sealed."""
        value = self.open(sealed, purpose=purpose)
        with suppress(InvalidToken):
            Fernet(self._keys(anew=True)[0]).decrypt(sealed)
            return None
        return self.seal(value, purpose=purpose)

    def check(self) -> int:
        """Number of keys. Raises ConfigurationError where there is none."""
        return len(self._keys(anew=True))

    def _keys(self, *, anew: bool) -> tuple[bytes, ...]:
        with self._lock:
            if anew or not self._known:
                self._known = tuple(self.read())
            return self._known


def sealer_with(text: str) -> Sealer:
    """A sealer with these keys. Raises ValueError, which holds no part of them."""
    keys = read_keys(text)
    return Sealer(lambda: keys)


def sealer_of_file(file: Path) -> Sealer:
    """A sealer with the keys of the operator's file."""

    def read() -> tuple[bytes, ...]:
        try:
            return read_keys(read_text(file))
        except OSError as unreadable:
            what = f"{file} cannot be read: {unreadable.strerror}"
        except ValueError as wrong:
            what = f"{file}: {wrong}"
        raise ConfigurationError([Problem("WAYLINK_SECRET_KEY_FILE", what, EXAMPLE)])

    return Sealer(read)


def sealer_of_folder(data_dir: Path, *, is_used: Callable[[], bool]) -> Sealer:
    """The embedded default's sealer: its key is made at first need, readable by this user alone.

    is_used: whether the database holds sealed values. Then a missing key file is an error, and no other key is made,
    since those values would never open again.
    """
    file = data_dir / KEY_FILE
    kept = sealer_of_file(file)

    def read() -> Sequence[bytes]:
        if not file.exists():
            if is_used():
                what = f"{file} is gone, and the database holds secrets that were encrypted with it: put it back"
                raise ConfigurationError([Problem("WAYLINK_SECRET_KEY", what, EXAMPLE)])
            _make(file)
        return kept.read()

    return Sealer(read)


def sealer_without_key() -> Sealer:
    """A sealer for an external database without a configured key: it raises ConfigurationError when used."""

    def read() -> Sequence[bytes]:
        what = "is needed to keep signing secrets and broker URLs: set it for every process, the same"
        raise ConfigurationError([Problem("WAYLINK_SECRET_KEY", what, EXAMPLE)])

    return Sealer(read)


def _make(file: Path) -> None:
    """Create the key file. Concurrent processes all use the first one's key, and never read a partial file."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as opened:
            opened.write(
                f"# Decrypts what Waylink keeps in its database. Keep a copy, not beside the database's.\n{new_key()}\n"
            )
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
