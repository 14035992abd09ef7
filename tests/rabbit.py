"""Debian's RabbitMQ as a private server."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from amqp.exceptions import AMQPError
from kombu import Connection

from tests.certificates import Tls
from tests.ports import free_port
from tests.servers import STOP_WITHIN, Server


class RabbitServer(Server):
    """Listens on loopback ports: plain, and with TLS where it is given a certificate.

    What it holds survives `stop`. Its port mapper is its own, too, and ends with it.
    """

    program: ClassVar[Path] = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    start_within = 150.0  # it loads all its modules first: some 10 s of a processor, where that is a slow one

    def __init__(self, tls: Tls | None = None) -> None:
        super().__init__("mq", {"start_new_session": True})
        self.port, self.tls_port, self._nodes_port, self._mapper_port = (free_port() for _ in range(4))
        self._mapper: subprocess.Popen[bytes] | None = None
        (self.folder / "plugins").write_text("[].")
        if tls:
            (self.folder / "rabbitmq.conf").write_text(
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.certfile = {tls.certificate}\nssl_options.keyfile = {tls.key}\n"
            )

    def argv(self) -> list[str]:
        return [str(self.program)]

    def ready(self) -> bool:
        """That it serves, not only listens: a connection is greeted."""
        try:
            # kombu waits two seconds after a refused connection, hence the check before.
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            with Connection(self.url(), connect_timeout=1) as connection:
                connection.connect()
        except (OSError, AMQPError):
            return False
        return True

    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def tls_url(self) -> str:
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}//"

    def close(self) -> None:
        super().close()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._mapper is None:
            mapper = ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
            self._mapper = subprocess.Popen(mapper, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        variables = {
            "HOME": self.folder,  # of the cookie
            "ERL_EPMD_PORT": self._mapper_port,
            "RABBITMQ_NODENAME": f"waylink-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._nodes_port,
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder,
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
        }
        self._run_as = {
            **self._run_as,
            "env": {**os.environ, **{name: str(value) for name, value in variables.items()}},
        }
        return super()._spawn()

    def _end(self, number: signal.Signals) -> None:
        """The script, and Erlang's machine below it."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_WITHIN)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
