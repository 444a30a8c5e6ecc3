"""What watchers of runs are told, read from Postgres once per process and shared by all of them.

Redis only says which runs have news; without it every watched run is looked at each `POLL_S`. A watcher keeps no queue:
it holds a position in a short shared backlog, and one that falls behind the backlog is told of the gap.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeVar

import structlog

from gateway import frames
from schemas import tasks
from schemas.changes import Change, unpack
from schemas.errors import NotFound, Unavailable
from schemas.states import RunState
from schemas.store import changes, runs
from schemas.store.db import Database

log = structlog.get_logger()

POLL_S = 1.0
PING_S = 15.0
PAGE = 1000
READS_AT_ONCE = 3
RETRY_S = 0.3
BACKLOG = 2000
BACKLOG_BYTES = 2 << 20
WRITE_BYTES = 64 << 10  # at most, give or take a frame, waits for a reader that does not read
SHORTEST_TICK_S = 0.002
LONGEST_TICK_S = 0.2
TICK_PER_WATCHER_S = 5e-5  # a write costs 10 to 20 us: many watchers get fewer, larger writes


Entry = TypeVar("Entry")


def _everything(_entry: object) -> bool:
    return True


class Backlog(Generic[Entry]):
    """The newest frames of one stream, each with the entry it was made of, and the promise of more."""

    def __init__(self) -> None:
        self._frames: deque[tuple[Entry, bytes]] = deque()
        self._bytes = 0
        self._told = 0  # position of the oldest frame that nobody was told of: nothing newer may go
        self._news: asyncio.Future[None] | None = None
        self.first = 0  # position of the oldest frame still here
        self.watchers = 0

    @property
    def next(self) -> int:
        """The position of the next frame to come."""
        return self.first + len(self._frames)

    def append(self, entry: Entry, frame: bytes) -> None:
        """Add a frame and let the oldest go; `tell` wakes the watchers."""
        self._frames.append((entry, frame))
        self._bytes += len(frame)
        while self.first < self._told and (len(self._frames) > BACKLOG or self._bytes > BACKLOG_BYTES):
            self._bytes -= len(self._frames.popleft()[1])
            self.first += 1

    def since(self, position: int, wanted: Callable[[Entry], bool] = _everything) -> tuple[bytes, int]:
        """Join the wanted frames from a position on, enough for one write; the other result is the position after."""
        chosen: list[bytes] = []
        size = 0
        for entry, frame in islice(self._frames, position - self.first, None):
            position += 1
            if wanted(entry):
                chosen.append(frame)
                size += len(frame)
            if size >= WRITE_BYTES:
                break
        return b"".join(chosen), position

    def tell(self) -> None:
        """Wake everyone who waits."""
        self._told = self.next
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None

    async def news(self, timeout_s: float) -> bool:
        """Wait for the next `tell`; False when there was none."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({self._news}, timeout=timeout_s)
        return bool(done)


class Channel(Backlog[Change]):
    """One watched run."""

    def __init__(self, run_id: uuid.UUID, seq: int) -> None:
        super().__init__()
        self.run_id = run_id
        self.seq = seq
        self.first = seq + 1  # a position in this backlog is a seq
        self.end: bytes | None = None
        self.state: RunState | None = None  # as far as was heard

    def add(self, change: Change) -> None:
        """Take the next change; one that is here already is ignored."""
        if change.seq <= self.seq:
            return
        self.seq = change.seq
        self.append(change, frames.frame(change))
        if change.kind == "run":
            self.state = RunState(change.state or "")
            if self.state.is_terminal:
                self.end = _end_of(change)


class Feed:
    """Follows the watched runs."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._channels: dict[uuid.UUID, Channel] = {}
        self._dirty: set[uuid.UUID] = set()
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._wake = asyncio.Event()
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        self.drain()
        await tasks.end([self._task])

    def drain(self) -> None:
        """Ask every watcher to come back later, elsewhere."""
        self._draining = True
        for channel in self._channels.values():
            channel.tell()

    def hear(self, payload: bytes | None) -> None:
        """Take a message of the channel `changes`: these runs have news, or (None) any may have."""
        if not self._channels:
            return
        heard: Iterable[uuid.UUID] = self._channels if payload is None else unpack(payload)
        news = [run_id for run_id in heard if run_id in self._channels]
        if news:
            self._dirty.update(news)
            self._wake.set()

    async def watch(
        self, run_id: uuid.UUID, *, after: int, wanted: Callable[[Change], bool] = _everything
    ) -> AsyncGenerator[bytes]:
        """Yield everything of a run that is wanted after the seq `after`, then what happens, then `end`."""
        channel = await self._join(run_id)
        try:
            position = channel.seq
            async for history in self._history(run_id, wanted, after=after, until=position):
                yield history
            while True:
                if (missing := position + 1) < channel.first:
                    position = channel.first - 1
                    yield frames.gap(run_id=run_id, **{"from": missing, "to": position})
                elif position < channel.seq:
                    pending, following = channel.since(position + 1, wanted)
                    position = following - 1
                    if pending:
                        yield pending
                elif channel.end is not None:
                    yield channel.end
                    return
                elif self._draining:
                    yield frames.RESTARTING
                    return
                elif not await channel.news(PING_S):
                    yield frames.PING
        finally:
            self._leave(channel)

    async def states(self, run_id: uuid.UUID, *, again_s: float) -> AsyncGenerator[RunState]:
        """Yield where a run stands until it has ended: now, when it changes, and again after so many silent seconds."""
        channel = await self._join(run_id)
        try:
            state = (await runs.get(self._db, str(run_id), largest_body=0)).state
            heard = channel.state
            yield state
            while not (state.is_terminal or self._draining):
                if channel.state is not heard:
                    heard = channel.state
                    state = heard or state
                    yield state
                elif not await channel.news(again_s):
                    yield state
        finally:
            self._leave(channel)

    async def wait_until_ended(self, run_ids: Iterable[uuid.UUID], timeout_s: float) -> None:
        """Wait until all these runs have ended, or the time is up."""
        waits = [asyncio.ensure_future(self._wait_until_ended(run_id)) for run_id in run_ids]
        if not waits:
            return
        _, pending = await asyncio.wait(waits, timeout=timeout_s)
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _wait_until_ended(self, run_id: uuid.UUID) -> None:
        channel = await self._join(run_id)
        try:
            while channel.end is None and not self._draining:
                await channel.news(PING_S)
        finally:
            self._leave(channel)

    async def _join(self, run_id: uuid.UUID) -> Channel:
        channel = self._channels.get(run_id)
        if channel is None:
            channel = await self._open(run_id)
            channel = self._channels.setdefault(run_id, channel)
        channel.watchers += 1
        self._dirty.add(run_id)
        self._wake.set()
        return channel

    async def _open(self, run_id: uuid.UUID) -> Channel:
        async with self._turns:
            heads = await changes.heads(self._db, [run_id])
        if run_id not in heads:
            raise NotFound(f"There is no run {run_id}.")
        seq, has_ended = heads[run_id]
        channel = Channel(run_id, seq)
        if has_ended:
            newest = await changes.of_runs(self._db, {run_id: seq - 1}, limit=1)
            channel.end = _end_of(newest[0]) if newest else frames.end(run_id=run_id, seq=seq, state="")
        return channel

    def _leave(self, channel: Channel) -> None:
        channel.watchers -= 1
        if channel.watchers == 0 and self._channels.get(channel.run_id) is channel:
            del self._channels[channel.run_id]

    async def _history(
        self, run_id: uuid.UUID, wanted: Callable[[Change], bool], *, after: int, until: int
    ) -> AsyncGenerator[bytes]:
        """Read what was before the watcher came, at the watcher's own pace."""
        while after < until:
            page = await self._read(run_id, after)
            page = [change for change in page if change.seq <= until]
            if not page:
                yield frames.gap(run_id=run_id, **{"from": after + 1, "to": until})  # purged
                return
            after = page[-1].seq
            if history := b"".join(frames.frame(change) for change in page if wanted(change)):
                yield history

    async def _read(self, run_id: uuid.UUID, after: int) -> Sequence[Change]:
        """Read one page in turn, so that a thousand who come back at once queue here and not for connections."""
        while True:
            try:
                async with self._turns:
                    return await changes.of_runs(self._db, {run_id: after}, limit=PAGE)
            except Unavailable:
                if self._draining:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        while True:
            if not await tasks.set_within(self._wake, POLL_S):
                self._dirty.update(self._channels)
            self._wake.clear()
            try:
                await self._read_dirty()
            except Exception:
                log.exception("changes were not read, trying again")
            watchers = sum(channel.watchers for channel in self._channels.values())
            await asyncio.sleep(min(LONGEST_TICK_S, max(SHORTEST_TICK_S, watchers * TICK_PER_WATCHER_S)))

    async def _read_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        after = {run_id: self._channels[run_id].seq for run_id in dirty if run_id in self._channels}
        if not after:
            return
        try:
            news = await changes.of_runs(self._db, after, limit=PAGE)
        except Unavailable as error:
            log.warning("watchers wait for the database", error=error.message)
            self._dirty |= dirty
            return
        counts: dict[uuid.UUID, int] = dict.fromkeys(after, 0)
        for change in news:
            counts[change.run_id] += 1
            if channel := self._channels.get(change.run_id):
                channel.add(change)
        for run_id, count in counts.items():
            if count and (channel := self._channels.get(run_id)):
                channel.tell()
            if count == PAGE:
                self._dirty.add(run_id)
                self._wake.set()


def _end_of(change: Change) -> bytes:
    return frames.end(run_id=change.run_id, seq=change.seq, state=change.state or "")
