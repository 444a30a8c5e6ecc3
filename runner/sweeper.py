"""Heals what was lost, in every runner, without a leader: runs of dead runners, and runs that Redis does not know.

Everything it does is a guarded update or a ring that changes nothing when it is not needed, so many sweepers may do the
same at once. While Redis is away it starts due runs itself.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from runner.deadlines import Deadlines
from runner.library import Library
from schemas import tasks
from schemas.errors import PenstockError
from schemas.queue import REDIS_FAULTS, Doorbell, Ring
from schemas.settings import Settings
from schemas.store import leases
from schemas.store.db import Database

log = structlog.get_logger()

GRACE_S = 0.3  # a run this young is on its way
REDIS_PATIENCE_S = 1.0  # a Redis that hangs is away, too
SHORTEST_PAUSE_S = 0.02
SILENT_BEATS = 1.5
PARTITIONS_EVERY_S = 3600.0
PARTITIONS_AHEAD = 7


class Sweeper:
    """Looks for lost runs every `sweep_s`, give or take a fifth."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        settings: Settings,
        *,
        library: Library,
        start_without_doorbell: Callable[[Sequence[Ring]], None],
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._settings = settings
        self._queues = settings.queues.split(",")
        self._library = library
        self._deadlines = Deadlines(db, doorbell)
        self._start_without_doorbell = start_without_doorbell
        self._partitions_at = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look soon: a slot became free that other runs may wait for."""
        self._wake.set()

    def hear_registry(self, _payload: bytes | None) -> None:
        """Look soon: something was set up anew, and runs that waited may be due."""
        self._wake.set()

    async def start(self) -> None:
        """Begin to sweep."""
        self._task = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        """Stop sweeping."""
        await tasks.end([self._task])

    async def sweep(self) -> None:
        """Look once; raises Unavailable."""
        await self._reclaim()
        due = await leases.find_due(self._db, self._library.versions, older_than_s=GRACE_S, queues=self._queues)
        if due:
            await self._ring_again(due)
        await self._deadlines.look()
        await self._ensure_partitions()

    async def _ring_again(self, due: Sequence[Ring]) -> None:
        try:
            async with asyncio.timeout(REDIS_PATIENCE_S):
                lost = await self._doorbell.missing(due)
                await self._doorbell.ring_now(lost)
        except REDIS_FAULTS:
            self._start_without_doorbell(due)

    async def _reclaim(self) -> None:
        settings = self._settings
        silence_s = SILENT_BEATS * settings.heartbeat_s
        dead = await leases.find_dead_runners(self._db, lease_s=settings.lease_s, silence_s=silence_s)
        if not dead:
            return
        rings, ended = await leases.reclaim(self._db, dead)
        log.warning("runners are dead", runners=len(dead), queued_again=len(rings), ended=len(ended))
        self._doorbell.ring(rings)
        self._doorbell.tell(ended)
        await leases.bury(self._db, dead)

    async def _ensure_partitions(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._partitions_at:
            await leases.ensure_partitions(self._db, PARTITIONS_AHEAD)
            self._partitions_at = now + PARTITIONS_EVERY_S

    async def _sweep_for_ever(self) -> None:
        while True:
            await tasks.set_within(self._wake, self._settings.sweep_s * random.uniform(0.8, 1.2))  # noqa: S311
            self._wake.clear()
            await asyncio.sleep(SHORTEST_PAUSE_S)
            try:
                await self.sweep()
            except PenstockError as error:
                log.warning("sweep failed, trying again", error=type(error).__name__)
            except Exception:
                log.exception("sweep broke, trying again")
