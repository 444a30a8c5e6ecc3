"""Many callers, one commit: rows that arrive while a flush is under way leave together with the next one.

One row alone is flushed at once, so nobody waits for company. A row that the database refuses fails alone: its batch is
halved until it is found. While the database is away rows are held and tried again until each one's time is up.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from schemas.errors import Unavailable

Row = TypeVar("Row")
Result = TypeVar("Result")

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
EXPIRY_TICK_S = 0.1


class _Entry(Generic[Row, Result]):
    __slots__ = ("deadline", "future", "row", "size")

    def __init__(self, row: Row, size: int, deadline: float, future: "asyncio.Future[Result]") -> None:
        self.row = row
        self.size = size
        self.deadline = deadline
        self.future = future


class GroupCommit(Generic[Row, Result]):
    """Collects rows and hands them to `flush(rows)`, which commits them and returns one result per row, in order.

    `flush` must be idempotent: after an Unavailable nobody knows whether it committed, so it is called again.
    `hold_s` is how long one row may wait in total; `max_waiting` bounds what is held, in the unit of `size(row)`.
    """

    def __init__(
        self,
        flush: Callable[[list[Row]], Awaitable[Sequence[Result]]],
        *,
        hold_s: float,
        max_rows: int = 256,
        max_size: int = 8 << 20,
        max_waiting: int = 128 << 20,
        size: Callable[[Row], int] = lambda _row: 1,
    ) -> None:
        self._flush = flush
        self._hold_s = hold_s
        self._max_rows = max_rows
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._size = size
        self._waiting: deque[_Entry[Row, Result]] = deque()
        self._batch: list[_Entry[Row, Result]] = []
        self._held = 0
        self._drain: asyncio.Task[None] | None = None

    def submit(self, row: Row, *, until: float | None = None) -> "asyncio.Future[Result]":
        """Queue a row; the future ends when it is committed, is refused, or its time is up (Unavailable).

        `until` is when that is, on the loop's clock, for a row that has waited for something else already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        size = self._size(row)
        if self._held + size > self._max_waiting:
            future.set_exception(Unavailable("Too much is waiting for the database.", retry_after=2))
            return future
        self._held += size
        self._waiting.append(_Entry(row, size, until or loop.time() + self._hold_s, future))
        if self._drain is None:
            self._drain = loop.create_task(self._drain_all())
        return future

    async def close(self) -> None:
        """Wait until everything submitted has been answered."""
        while self._drain is not None:
            await asyncio.wait({self._drain})

    async def _drain_all(self) -> None:
        try:
            await asyncio.sleep(0)  # lets the other requests of this loop iteration join
            while self._waiting:
                self._batch = self._take()
                await self._commit(self._batch)
        finally:
            self._batch = []
            self._drain = None

    def _take(self) -> list[_Entry[Row, Result]]:
        batch: list[_Entry[Row, Result]] = []
        size = 0
        while self._waiting and len(batch) < self._max_rows and (not batch or size < self._max_size):
            entry = self._waiting.popleft()
            if entry.future.done():
                self._release(entry)
                continue
            size += entry.size
            batch.append(entry)
        return batch

    async def _commit(self, batch: list[_Entry[Row, Result]]) -> None:
        pause = FIRST_PAUSE_S
        while batch:
            try:
                results = await self._flush_watched([entry.row for entry in batch])
            except Unavailable as error:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE_S)
                self._expire(error)
                batch = [entry for entry in batch if not entry.future.done()]
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to a caller, never to the drain
                await self._isolate(batch, error)
                return
            else:
                self._answer(batch, results)
                return

    def _answer(self, batch: list[_Entry[Row, Result]], results: Sequence[Result]) -> None:
        if len(results) != len(batch):
            error = RuntimeError(f"{len(results)} results for {len(batch)} rows")
            for entry in batch:
                self._fail(entry, error)
            return
        for entry, result in zip(batch, results, strict=True):
            self._release(entry)
            if not entry.future.done():
                entry.future.set_result(result)

    async def _flush_watched(self, rows: list[Row]) -> Sequence[Result]:
        """Flush, and let rows whose time is up go even when the flush hangs."""
        ticker = _Ticker(lambda: self._expire(Unavailable("The database does not answer.")))
        try:
            return await self._flush(rows)
        finally:
            ticker.stop()

    async def _isolate(self, batch: list[_Entry[Row, Result]], error: Exception) -> None:
        if len(batch) == 1:
            self._fail(batch[0], error)
            return
        middle = len(batch) // 2
        await self._commit(batch[:middle])
        await self._commit(batch[middle:])

    def _expire(self, error: Unavailable) -> None:
        now = asyncio.get_running_loop().time()
        for entry in (*self._batch, *self._waiting):
            if entry.deadline <= now and not entry.future.done():
                self._fail(entry, error)

    def _fail(self, entry: _Entry[Row, Result], error: Exception) -> None:
        self._release(entry)
        if not entry.future.done():
            entry.future.set_exception(error)

    def _release(self, entry: _Entry[Row, Result]) -> None:
        self._held -= entry.size
        entry.size = 0


class _Ticker:
    """Calls something every `EXPIRY_TICK_S`; cheaper than a task where it seldom comes to it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._arm()

    def stop(self) -> None:
        self._timer.cancel()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EXPIRY_TICK_S, self._tick)

    def _tick(self) -> None:
        self._call()
        self._arm()
