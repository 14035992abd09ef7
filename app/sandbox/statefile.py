"""The state file, by which a sandbox survives a restart."""

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from app.errors import ConfigurationError, Problem
from app.sandbox.entities import SavedState
from app.sandbox.state import Store

INTERVAL: Final = 0.25  # seconds between two checks; a burst of changes is one write


def load(path: Path) -> SavedState | None:
    """The kept state, None when there is none. Raises ConfigurationError when the file cannot be used."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SavedState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged, or of another release"
        what = f"cannot be read ({why}): move it away to start with an empty sandbox"
        raise ConfigurationError([Problem(f"sandbox state file {path}", what)]) from error


def write(path: Path, saved_state: SavedState) -> None:
    """Replace the file atomically. It contains tokens, if fake ones, so it is readable by its user only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(saved_state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


async def keep(path: Path, store: Store, *, stopping: asyncio.Event) -> None:
    """Write the state whenever it changed, until `stopping` is set; then once more if it changed since."""
    written = -1
    while True:
        last = stopping.is_set()
        if store.version != written:
            # The values are frozen, so this copy is consistent although a thread writes it.
            version, saved_state = store.version, store.saved_state()
            await asyncio.to_thread(write, path, saved_state)
            written = version
        if last:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), INTERVAL)
