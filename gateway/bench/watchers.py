"""Many watchers of one run, in a process of their own: `python -P -m gateway.bench.watchers`.

It reads one Crowd as a line of JSON from stdin, writes Connected when everyone's stream has begun, and Seen when every
stream has ended. All watchers count what they receive; only some look at the clock, for that takes time.
"""

import asyncio
import datetime as dt
import re
import resource
import sys
import time
from typing import cast

import msgspec
import uvloop

from gateway.bench.figures import quantile

CLOCK_WATCHERS = 40
AT_ONCE = 50
_ID = b"\nid: "
_END = b"event: end\n"
_GAP = b"event: gap\n"
_AT = re.compile(rb'"at":"([^"]+)"')
_LAST_ID = re.compile(rb"\nid: (\d+)\n")


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """How many watch which run; delays count from when all are connected, for `seconds`."""

    port: int
    path: str
    key: str
    watchers: int
    seconds: float
    patience_s: float

    def request(self) -> bytes:
        """Write down what each of them asks."""
        head = f"GET {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
        return f"{head}authorization: Bearer {self.key}\r\n\r\n".encode()


class Connected(msgspec.Struct, frozen=True):
    """Everyone's stream has begun."""

    watchers: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them saw together; `lost` is what some saw and others did not."""

    changes: int
    lost: int
    gaps: int
    delays: int
    p50_s: float
    p99_s: float


class Audience:
    """Connects the watchers and adds up what they saw."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._all_ended = asyncio.Event()
        self._left_to_end = crowd.watchers
        self._watchers: list[_Watcher] = []
        self.request = crowd.request()
        self.delays: list[float] = []
        self.window = (float("inf"), float("inf"))

    async def connect(self) -> Connected:
        """Open all streams, some at once, and wait until each has brought something; raises ConnectionError."""
        every = max(1, self._crowd.watchers // CLOCK_WATCHERS)
        self._watchers = [_Watcher(self, reads_clock=n % every == 0) for n in range(self._crowd.watchers)]
        for start in range(0, len(self._watchers), AT_ONCE):
            await asyncio.gather(*map(self._connect, self._watchers[start : start + AT_ONCE]))
        now = time.time()
        self.window = (now, now + self._crowd.seconds)
        return Connected(len(self._watchers))

    async def watch(self) -> Seen:
        """Wait until all streams have ended."""
        await self._all_ended.wait()
        newest = max(watcher.newest for watcher in self._watchers)
        changes = sum(watcher.changes for watcher in self._watchers)
        return Seen(
            changes=changes,
            lost=newest * len(self._watchers) - changes,
            gaps=sum(watcher.gaps for watcher in self._watchers),
            delays=len(self.delays),
            p50_s=quantile(self.delays, 0.50),
            p99_s=quantile(self.delays, 0.99),
        )

    def ended(self) -> None:
        """Count a stream that has ended."""
        self._left_to_end -= 1
        if self._left_to_end == 0:
            self._all_ended.set()

    async def _connect(self, watcher: "_Watcher") -> None:
        await asyncio.get_running_loop().create_connection(lambda: watcher, "127.0.0.1", self._crowd.port)
        answer = await watcher.first
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"a watcher was answered with {answer!r}")


class _Watcher(asyncio.Protocol):
    """One stream. A change is counted by its `id:`, also when that comes in two pieces."""

    def __init__(self, audience: Audience, *, reads_clock: bool) -> None:
        self._audience = audience
        self._reads_clock = reads_clock
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.changes = self.newest = self.gaps = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        self._transport.write(self._audience.request)

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)
        if self._reads_clock:
            self._read_clock(data)
        seen = self._tail + data
        self.changes += seen.count(_ID) - self._tail.count(_ID)
        self.gaps += seen.count(_GAP) - self._tail.count(_GAP)
        has_ended = _END in seen
        self._tail = seen[-len(_END) :]
        if has_ended:
            self._finish()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.first.done():
            self.first.set_result(b"")
        self._audience.ended()

    def _read_clock(self, data: bytes) -> None:
        now = time.time()
        begin, end = self._audience.window
        for found in _AT.finditer(data):
            at = dt.datetime.fromisoformat(found[1].decode()).timestamp()
            if begin <= at <= end:
                self._audience.delays.append(now - at)
        if ids := _LAST_ID.findall(data):
            self.newest = int(ids[-1])

    def _finish(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _attend(crowd: Crowd) -> None:
    audience = Audience(crowd)
    async with asyncio.timeout(crowd.patience_s):
        _write(await audience.connect())
        _write(await audience.watch())


def _write(answer: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer the question on stdin; each watcher is an open file."""
    crowd = msgspec.json.decode(sys.stdin.readline(), type=Crowd)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_attend(crowd))


if __name__ == "__main__":
    main()
