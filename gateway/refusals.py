"""What was refused at the gate, written down so that its sender's operator can see why: sampled, bounded, later.

Only who has a token can cause an entry. Each schedule has a small bucket of them and the gateway one for all, and of a
body only the beginning is kept, so that an attacker with a leaked token fills at most about 1.4 GB a day by bodies and
twice that by headers, of each gateway. Writing is no part of the answer: what Postgres does not take is dropped.
"""

import asyncio
import contextlib
import time
import uuid

import structlog

from gateway.incoming import Incoming
from gateway.intake import refused
from schemas import tasks
from schemas.errors import PenstockError
from schemas.events import Delivery
from schemas.schedules import Gate
from schemas.store import events
from schemas.store.db import Database

log = structlog.get_logger()

KEPT_BYTES = 16 << 10
BURST, EVERY_S = 20, 10.0  # of one schedule
BURST_OF_ALL, EVERY_S_OF_ALL = 100, 1.0
LONGEST_QUEUE = 200
MOST_SCHEDULES = 10_000


class Refusals:
    """Keeps a sample of what was refused."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue(LONGEST_QUEUE)
        self._of_all = _Bucket(BURST_OF_ALL, EVERY_S_OF_ALL)
        self._of_schedule: dict[uuid.UUID, _Bucket] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Write what waits, then end."""
        if self._task is not None:
            await tasks.end([self._task])
        while not self._waiting.empty():
            await self._put(self._waiting.get_nowait())

    def note(self, gate: Gate, incoming: Incoming, error: PenstockError) -> None:
        """Write a refusal down soon, unless there were too many of late."""
        if len(self._of_schedule) > MOST_SCHEDULES:
            self._of_schedule.clear()
        bucket = self._of_schedule.setdefault(gate.schedule_id, _Bucket(BURST, EVERY_S))
        if bucket.take() and self._of_all.take():
            with contextlib.suppress(asyncio.QueueFull):
                self._waiting.put_nowait(refused(gate, incoming, error, most_bytes=KEPT_BYTES))

    async def _write(self) -> None:
        while True:
            await self._put(await self._waiting.get())

    async def _put(self, delivery: Delivery) -> None:
        try:
            await events.ingest(self._db, [delivery])
        except PenstockError as error:
            log.debug("a refusal is not written down", error=error.message)
        except Exception:  # one that cannot be written must not end the writing of all others
            log.exception("a refusal cannot be written down", event_id=str(delivery.event_id))


class _Bucket:
    """So many at once, then one in each interval."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._most, self._every_s = burst, every_s
        self._left, self._at = float(burst), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) / self._every_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
