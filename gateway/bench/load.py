"""The load generator, a process of its own: so many connections that each send the next request after an answer.

`python -P -m gateway.bench.load` reads one Load as a line of JSON from stdin and writes one Measured to stdout. It has
to be several times cheaper than what it measures: the requests are made before, and of an answer it reads the status
and the length.
"""

import asyncio
import sys
import time
from array import array
from collections import Counter
from typing import cast

import msgspec
import uvloop

from gateway.bench.figures import quantile

GIVE_UP_AFTER_S = 20.0
_PLACE = b"{{number}}"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: for `seconds` after the warm-up, or `count` requests if that is given.

    In a request the text {{number}} stands for a number that no other request has.
    """

    port: int
    path: str
    body: str
    headers: dict[str, str] = {}
    connections: int = 1
    seconds: float = 1.0
    warm_up_s: float = 0.0
    count: int | None = None

    def request(self) -> bytes:
        """Write the request down, with the place for the number still in it."""
        fields = {"host": f"127.0.0.1:{self.port}", "content-type": "application/json"} | self.headers
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        body = self.body.encode()
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: answers per status, and the rate and the waiting times after the warm-up."""

    statuses: dict[str, int]
    per_second: float
    p50_s: float
    p99_s: float

    @property
    def accepted(self) -> int:
        """How many were answered with 202."""
        return self.statuses.get("202", 0)


class Generator:
    """Sends a load and counts."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parts = load.request().split(_PLACE)
        self._number = time.time_ns()  # a later load begins with a later number
        self._left = load.count
        self._open = load.connections
        self._waits = array("d")
        self._statuses: Counter[bytes] = Counter()
        self._warm_at = self._ends_at = self._last_at = 0.0
        self._done = asyncio.Event()

    async def run(self) -> Measured:
        """Send everything; raises TimeoutError when the answers do not come."""
        loop, load = asyncio.get_running_loop(), self._load
        connections = [
            (await loop.create_connection(lambda: _Connection(self), "127.0.0.1", load.port))[1]
            for _ in range(load.connections)
        ]
        self._warm_at = time.perf_counter() + load.warm_up_s
        self._ends_at = self._warm_at + load.seconds
        for connection in connections:
            connection.send()
        async with asyncio.timeout(None if load.count else load.warm_up_s + load.seconds + GIVE_UP_AFTER_S):
            await self._done.wait()
        return self._measured()

    def next(self) -> bytes | None:
        """Return the next request, or None when there is nothing more to send."""
        if self._left is None:
            if time.perf_counter() >= self._ends_at:
                return None
        elif self._left == 0:
            return None
        else:
            self._left -= 1
        self._number += 1
        return self._parts[0] if len(self._parts) == 1 else b"%d".join(self._parts) % self._number

    def answered(self, status: bytes, begun: float) -> None:
        """Count an answer."""
        self._last_at = time.perf_counter()
        self._statuses[status] += 1
        if self._load.count or self._warm_at <= self._last_at <= self._ends_at:
            self._waits.append(self._last_at - begun)

    def ended(self, *, early: bool) -> None:
        """Take leave of a connection; early is before its answer came."""
        self._open -= 1
        self._statuses[b"lost"] += early
        if self._open == 0:
            self._done.set()

    def _measured(self) -> Measured:
        window = self._last_at - self._warm_at if self._load.count else self._load.seconds
        return Measured(
            statuses={status.decode(): count for status, count in self._statuses.items() if count},
            per_second=len(self._waits) / window,
            p50_s=quantile(self._waits, 0.50),
            p99_s=quantile(self._waits, 0.99),
        )


class _Connection(asyncio.Protocol):
    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._begun = 0.0
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases

    def send(self) -> None:
        request = self._generator.next()
        if self._transport is None:
            return
        self._is_waiting = request is not None
        if request is None:
            self._transport.close()
            return
        self._begun = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        length = received.find(b"content-length: ", 0, head) + 16
        if head < 0 or len(received) < head + 4 + int(received[length : received.find(b"\r", length)]):
            self._received = received
            return
        self._received = b""
        self._generator.answered(received[9:12], self._begun)
        self.send()

    def connection_lost(self, _error: Exception | None) -> None:
        self._generator.ended(early=self._is_waiting)


def main() -> None:
    """Answer the question on stdin."""
    load = msgspec.json.decode(sys.stdin.readline(), type=Load)
    measured = uvloop.run(Generator(load).run())
    sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")


if __name__ == "__main__":
    main()
