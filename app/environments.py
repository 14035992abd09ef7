"""A Nango environment as the rest of the program sees it: a value, with its keys behind it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

_LOOK_AGAIN_AFTER: Final = 1.0  # seconds between two looks at a key file


@dataclass(slots=True)
class SigningKeys:
    """The live webhook signing keys of one environment, newest first.

    Nango replaces its key in place, so old and new signatures interleave for some minutes (CONTRACT 1.5): all live
    keys are tried. Keys of a file are read again when the file changes, without a restart.
    """

    values: tuple[SecretStr, ...] = ()
    file: Path | None = None
    _plain: tuple[str, ...] = field(default=(), init=False, repr=False)
    _looked_at: float = field(default=float("-inf"), init=False, repr=False)
    _stamp: tuple[int, int] | None = field(default=None, init=False, repr=False)

    def live(self) -> tuple[str, ...]:
        """The keys in plain text, for verification only. An unreadable file leaves the last known keys in force."""
        if self.file is None:
            if not self._plain:
                self._plain = tuple(value.get_secret_value() for value in self.values)
            return self._plain
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_AFTER:
            self._looked_at = time.monotonic()
            self._read_file(self.file)
        return self._plain

    def _read_file(self, file: Path) -> None:
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            keys = split_keys(file.read_text())
        except (OSError, UnicodeDecodeError):
            return
        if keys:
            self._plain, self._stamp = keys, stamp


def split_keys(text: str) -> tuple[str, ...]:
    """Keys separated by commas or white space, as in WAYLINK_NANGO_SIGNING_KEYS or a key file."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


@dataclass(frozen=True, slots=True)
class Environment:
    """One Nango environment. Without an API key nothing is confirmed and no token is refreshed (DESIGN 5)."""

    name: str
    base_url: str
    account: str
    signing_keys: SigningKeys
    api_key: SecretStr | None = None
    sandboxed: bool = False

    @property
    def has_api(self) -> bool:
        return self.api_key is not None


Environments = Mapping[str, Environment]
