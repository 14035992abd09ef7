"""The comparison from Node.js: fastify takes the webhook, BullMQ queues it on the same Valkey (bench/node/)."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.processes import Failed, run

FOLDER: Final = Path(__file__).parent / "node"


def prepare() -> str | None:
    """Install what the lock file names, once. Returns why that is impossible here, or None."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    installed, lock = FOLDER / "node_modules" / ".package-lock.json", FOLDER / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return None
    try:
        run(["npm", "ci"], folder=FOLDER)
    except Failed:
        return "`npm ci` failed (see above)"
    return None


def argv(valkey_url: str, mode: str) -> Callable[[int], Sequence[str]]:
    """mode: `add` sends each job by itself, `bulk` those of one turn of the event loop together."""
    return lambda port: ["node", str(FOLDER / "server.mjs"), str(port), valkey_url, mode]
