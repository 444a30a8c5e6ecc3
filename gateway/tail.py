"""What all runs do, and every event, as one resumable stream: read from Postgres in the order of transactions.

A cursor is (xid, id of a run or an event, seq). Below the horizon, the oldest transaction that is still running,
nothing can appear any more, so what lies behind a cursor is complete: a watcher that comes back with it gets exactly
the rest.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence

import msgspec
import structlog

from gateway import frames
from gateway.feed import PING_S, POLL_S, Backlog
from gateway.topics import EVENT, Wanted
from schemas import tasks
from schemas.changes import TailedChange
from schemas.errors import Invalid, Unavailable
from schemas.store import changes
from schemas.store.db import Database

log = structlog.get_logger()

PAGE = 1000
TICK_S = 0.02


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A position in the history of everything."""

    xid: int
    run_id: uuid.UUID
    seq: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.run_id.hex}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a Last-Event-ID back; raises Invalid."""
        try:
            xid, run_id, seq = text.split("-")
            return cls(int(xid) & 0x7FFF_FFFF_FFFF_FFFF, uuid.UUID(hex=run_id), int(seq) & 0x7FFF_FFFF)
        except ValueError:
            raise Invalid("This Last-Event-ID is not one of ours; connect without it.") from None

    @classmethod
    def of(cls, change: TailedChange) -> "Cursor":
        """Give the position of a change."""
        return cls(int(change.xid), change.run_id, change.seq)


class Tail:
    """Follows all runs for as long as anybody watches."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._backlog: Backlog[TailedChange] = Backlog()
        self._cursor = Cursor(0, uuid.UUID(int=0), 0)
        self._wake = asyncio.Event()
        self._draining = False
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def now(self) -> Cursor:
        """The position of the newest change that was read; what comes after it is still to be told."""
        return self._cursor

    def hear(self, _payload: bytes | None) -> None:
        """Take a message of the channel `changes`: something happened."""
        self._wake.set()

    def drain(self) -> None:
        """Ask every watcher to come back later, elsewhere."""
        self._draining = True
        self._backlog.tell()

    async def stop(self) -> None:
        """Stop following."""
        self.drain()
        await tasks.end([self._task])

    async def watch(self, wanted: Wanted, *, after: Cursor | None) -> AsyncGenerator[bytes]:
        """Yield the changes that are wanted: first those after the cursor `after`, then what happens."""
        self._backlog.watchers += 1
        try:
            await self.begin()  # again: who began before may have stopped, unwatched
            now, position = self._cursor, self._backlog.next
            start = after or now  # whoever is cut off before the first event needs a cursor, too
            yield b": watching\nid: %b\n\n" % str(start).encode()
            async for history in self._history(wanted, after=start, until=now):
                yield history
            while not self._draining:
                if (missed := self._backlog.first - position) > 0:
                    position = self._backlog.first
                    yield frames.gap(missed=missed)
                elif position < self._backlog.next:
                    pending, position = self._backlog.since(position, wanted)
                    if pending:
                        yield pending
                elif not await self._backlog.news(PING_S):
                    yield frames.PING
            yield frames.RESTARTING
        finally:
            self._backlog.watchers -= 1

    async def begin(self) -> None:
        """Make sure that somebody follows, and wait until it is known from where; raises Unavailable."""
        if self._task is None or self._task.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._follow(self._ready))
        if self._ready is not None:
            await asyncio.shield(self._ready)

    async def _follow(self, ready: "asyncio.Future[None]") -> None:
        try:
            horizon = await changes.horizon(self._db)
        except Unavailable as error:
            ready.set_exception(error)
            return
        self._cursor = Cursor(int(horizon), uuid.UUID(int=0), 0)
        ready.set_result(None)
        while self._backlog.watchers:
            await tasks.set_within(self._wake, POLL_S)
            self._wake.clear()
            try:
                await self._read_news()
            except Unavailable as error:
                log.warning("watchers wait for the database", error=error.message)
            except Exception:
                log.exception("changes were not read, trying again")
            await asyncio.sleep(TICK_S)

    async def _read_news(self) -> None:
        horizon = await changes.horizon(self._db)
        while page := await self._page(self._cursor, horizon):
            for change in page:
                self._backlog.append(change, _frame(change))
            self._cursor = Cursor.of(page[-1])
            self._backlog.tell()

    async def _history(self, wanted: Wanted, *, after: Cursor, until: Cursor) -> AsyncGenerator[bytes]:
        """Read what was before the watcher came, at the watcher's own pace."""
        while after < until and (page := await self._page(after, str(until.xid + 1))):
            after = Cursor.of(page[-1])
            if pending := b"".join(_frame(change) for change in page if wanted(change) and Cursor.of(change) <= until):
                yield pending

    async def _page(self, after: Cursor, horizon: str) -> Sequence[TailedChange]:
        position = (str(after.xid), after.run_id, after.seq)
        return await changes.tail(self._db, position, horizon=horizon, with_logs=True, limit=PAGE)


def _frame(change: TailedChange) -> bytes:
    if change.kind == EVENT:
        return frames.frame_of_event(change, event_id=str(Cursor.of(change)))
    return frames.frame(change, event_id=str(Cursor.of(change)), pipeline_id=change.pipeline_id)
