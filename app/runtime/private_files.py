"""Access rights of Waylink's files: created for its user alone, and checked where they existed before."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077  # all rights of the group and of other users


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file or folder that other users of this machine can access, and the remedy."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def create_privately() -> None:
    """Set the umask of this process and its children so that new files, the database's included, are private."""
    os.umask(_OTHERS)


def exposed(data_dir: Path, database: Path | None) -> Iterator[Exposed]:
    """Exposed paths: the data folder, and the files of a SQLite database wherever they are.

    Inside a folder that only its user may enter, the modes of files do not matter.
    """
    yield from _exposed([data_dir])
    if database is not None and not any(_is_private(folder) for folder in database.absolute().parents):
        yield from _exposed(database.with_name(f"{database.name}{suffix}") for suffix in ("", "-wal", "-shm"))


def _exposed(paths: Iterable[Path]) -> Iterator[Exposed]:
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            continue
        if facts.st_uid != os.geteuid() and os.geteuid() != 0:
            yield Exposed(path, "belongs to another user, who can read and change it")
        elif facts.st_mode & _OTHERS:
            mode = "700" if stat.S_ISDIR(facts.st_mode) else "600"
            yield Exposed(path, f"is open to other users of this machine: chmod {mode} {path}")


def _is_private(folder: Path) -> bool:
    try:
        facts = folder.stat()
    except OSError:
        return False
    return facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS
