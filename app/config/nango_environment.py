"""A Nango environment as a value, with its keys."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.domain.payload_policy import PayloadPolicy
from app.telemetry import get_logger
from app.text_input import misfit, read_text, unwrapped

_REREAD_AFTER: Final = 1.0  # seconds between two checks of a key file

log = get_logger(__name__)


@dataclass(slots=True)
class SigningKeys:
    """Live webhook signing keys of one environment, newest first.

    Nango replaces its key in place, so old and new signatures interleave for some minutes (Nango contract: Signatures):
    all live keys are tried. A changed key file is read again without a restart.
    """

    values: tuple[SecretStr, ...] = ()
    file: Path | None = None
    problem: str | None = field(default=None, init=False)  # why the file is not usable now
    _plain: tuple[str, ...] = field(default=(), init=False, repr=False)
    _checked_at: float = field(default=float("-inf"), init=False, repr=False)
    _stamp: tuple[int, int] | None = field(default=None, init=False, repr=False)
    _unusable: bool = field(default=False, init=False, repr=False)

    def live(self) -> tuple[str, ...]:
        """The keys in plain text, for verification only. While the file is unreadable, the last known keys stay in
        force.
        """
        if self.file is None:
            if not self._plain:
                self._plain = tuple(value.get_secret_value() for value in self.values)
            return self._plain
        if time.monotonic() - self._checked_at >= _REREAD_AFTER:
            self._checked_at = time.monotonic()
            self._read_file(self.file)
        return self._plain

    def _read_file(self, file: Path) -> None:
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            keys = split_keys(read_text(file))
        except OSError as failed:
            self._keep_known(file, failed.strerror or type(failed).__name__)
            return
        except ValueError as failed:
            self._keep_known(file, str(failed))
            return
        if (wrong := wrong_keys(keys)) is not None:
            self._keep_known(file, wrong)
            return
        self._plain, self._stamp, self._unusable, self.problem = keys, stamp, False, None

    def _keep_known(self, file: Path, problem: str) -> None:
        if not self._unusable and self._plain:  # at the start it is reported as a configuration problem instead
            log.warning("key_file_unusable", file=str(file), problem=problem, then="the last known keys stay in force")
        self._unusable = True
        self.problem = problem


def split_keys(text: str) -> tuple[str, ...]:
    """Keys separated by commas or white space, as in WAYLINK_NANGO_SIGNING_KEYS or a key file.

    Lines that begin with `#` are comments.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    parts = [unwrapped(part) for part in unwrapped(" ".join(lines)).replace(",", " ").split()]
    return tuple(dict.fromkeys(part for part in parts if part))


def wrong_keys(keys: Sequence[str]) -> str | None:
    """The fault of a variable's or file's keys, None where there is none. It quotes no part of a key."""
    if not keys:
        return "holds no key"
    found = ((number, misfit(key)) for number, key in enumerate(keys, 1))
    return next((f"of key {number}, {wrong}" for number, wrong in found if wrong), None)


def key_name(key: str) -> str:
    """Public name of a signing key for logs, pages and metrics: 8 hex digits of a hash.

    Nango's keys are random UUIDs of 122 bits (Nango contract: Signatures); 32 bits of a hash leave 90 to guess. The
    prefix separates this hash from every other hash of the key, so that the name cannot be looked up elsewhere.
    """
    return hashlib.sha256(b"waylink signing key name\0" + key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Environment:
    """One Nango environment. Without an API key nothing is confirmed and no token is refreshed."""

    name: str
    base_url: str
    account: str
    signing_keys: SigningKeys
    api_key: SecretStr | None = None
    sandboxed: bool = False
    payloads: PayloadPolicy = PayloadPolicy.FULL
    account_key: SecretStr | None = None  # of the account; shows the environment's own settings
    nango_id: str | None = None  # the environment's UUID at Nango
    proxy: SecretStr | None = None  # the forward proxy for calls to Nango; its URL may have a password
    both_urls: bool = False  # Nango's primary and secondary URL both lead here: each webhook comes twice

    @property
    def has_api(self) -> bool:
        return self.api_key is not None


Environments = Mapping[str, Environment]
