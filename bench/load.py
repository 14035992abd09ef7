"""A load generator that is lighter than what it measures: prepared requests over raw keep-alive sockets.

`python -m bench.load PORT COUNT CONNECTIONS` signs COUNT unique webhooks, posts them in a closed loop, and prints
one JSON object: requests per second, latencies in milliseconds, and how many answers were of which status.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Final

import uvloop

from app.domain.signature import sign

KEY: Final = "bench-signing-key"
PATH: Final = "/webhooks/nango"


def request(connection_id: str, *, path: str = PATH) -> bytes:
    """One signed creation webhook of about 730 bytes in all."""
    body = json.dumps(
        {
            "authMode": "OAUTH2",
            "connectionId": connection_id,
            "environment": "prod",
            "from": "nango",
            "operation": "creation",
            "provider": "google-mail",
            "providerConfigKey": "google-mail",
            "success": True,
            "tags": {
                "end_user_email": f"user-{connection_id[:6]}@acme.example",
                "end_user_id": f"usr-{connection_id[:6]}",
                "organization_id": f"org-{connection_id[:2]}",
                "plan": "pro",
                "region": "eu-west-1",
            },
            "type": "auth",
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"User-Agent: nango/0.71.4 (linux; node.js/22)\r\nX-Nango-Hmac-Sha256: {sign(body, KEY)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the answer is there."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], statuses: Counter[str]) -> None:
        self._requests, self._latencies, self._statuses = requests, latencies, statuses
        self._received = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def start(self) -> None:
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0)
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._latencies.append(time.perf_counter() - self._sent)
        self._statuses[head[9:12].decode()] += 1
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(following)


async def run(port: int, requests: list[bytes], connections: int) -> dict[str, object]:
    """Post all requests; return rate, latency percentiles and statuses."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    todo = iter(requests)
    clients = [
        (await loop.create_connection(lambda: _Client(todo, latencies, statuses), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for client in clients:
        client.start()
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - started
    ordered = sorted(latencies)
    return {
        "per_second": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "statuses": dict(statuses),
    }


def main() -> None:
    port, count, connections = (int(one) for one in sys.argv[1:4])
    requests = [request(str(uuid.uuid4())) for _ in range(count)]
    print(json.dumps(uvloop.run(run(port, requests, connections))))


if __name__ == "__main__":
    main()
