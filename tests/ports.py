"""Loopback ports for servers that tests and benchmarks start."""

import socket
import sys


def free_port() -> int:
    """A port that nothing listens on and that no other process gets until this one ends.

    A server may listen on it, stop, and listen again: on Linux a bound socket that does not listen keeps the kernel
    from giving the port away, to listeners and to outgoing connections alike, and refuses no process that binds it by
    number with SO_REUSEADDR. Elsewhere the port is only free at this moment.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform == "linux":
            holder.detach()  # stays open as long as the process lives
    return port
