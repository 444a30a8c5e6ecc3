"""What is due by the clock, in every runner, without a leader: runs that wait too long, runs that pass their SLA.

Both are guarded updates that many sweepers may do at once. In passing it says when something waits that nobody serves.
"""

import asyncio

import structlog

from schemas.queue import Doorbell
from schemas.store import deadlines, leases
from schemas.store.db import Database

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
LOOK_AT_ALL_EVERY_S = 60.0
OVERLAP_S = 10.0  # what was locked during one look is seen by the next
FIRST_LOOK_BACK_S = 3600.0
MOST = 500  # of one schedule, in one look


class Deadlines:
    """Ends and marks runs whose time is up; made once per runner."""

    def __init__(self, db: Database, doorbell: Doorbell) -> None:
        self._db = db
        self._doorbell = doorbell
        self._looked_at: float | None = None
        self._looked_at_all_at: float | None = None
        self._unserved: list[str] = []

    async def look(self) -> None:
        """Look, if the last look is a second ago; raises Unavailable."""
        now = asyncio.get_running_loop().time()
        if self._looked_at is not None and now < self._looked_at + LOOK_EVERY_S:
            return
        if expired := await deadlines.expire(self._db, most=MOST):
            log.warning("runs waited for too long", runs=len(expired))
            self._doorbell.tell(expired)
        all_active = self._looked_at_all_at is None or now >= self._looked_at_all_at + LOOK_AT_ALL_EVERY_S
        since_s = FIRST_LOOK_BACK_S if self._looked_at is None else now - self._looked_at + OVERLAP_S
        if late := await deadlines.mark_late(self._db, most=MOST, since_s=since_s, all_active=all_active):
            log.warning("runs passed their SLA", runs=len(late), run_id=str(late[0]))
        if len(late) < MOST:
            self._looked_at = now
        if all_active:
            if self._looked_at_all_at is not None:  # whoever has just started may be the first of many
                await self._report_unserved()
            self._looked_at_all_at = now

    async def _report_unserved(self) -> None:
        unserved = await leases.find_unserved_queues(self._db)
        for queue in set(unserved).difference(self._unserved):
            log.warning("no runner serves this queue", queue=queue)
        self._unserved = unserved
