"""What every runner does beside its runs, without a leader: count hours that are over, and purge what is old.

All of it is done in short steps that others may take as well: a lock or a skipped row keeps two runners from the same
one, and after each a runner rests for as long as it took, so that deliveries have the database half of the time.
"""

import asyncio
import datetime as dt
import random

import structlog

from schemas import tasks
from schemas.errors import PenstockError
from schemas.objects import ObjectStore
from schemas.settings import Settings
from schemas.store import purges, tallies
from schemas.store.db import Database

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
RETRY_S = 0.3
CLOSE_EVERY_S = 60.0
HOURS_AT_ONCE = 24
FILES_EVERY_S = 5.0
RETENTION_EVERY_S = 600.0
LONGEST_PAUSE_S = 1.0
RETENTION = "PENSTOCK_RETENTION_DAYS"


class Housekeeping:
    """Closes hours, moves purges on, and deletes what the object store has of them."""

    def __init__(self, db: Database, settings: Settings, store: ObjectStore) -> None:
        self._db = db
        self._retention_days = settings.retention_days
        self._store = store
        self._close_at = 0.0
        self._retain_at = 0.0
        self._files_at = 0.0
        self._may_have_detached = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look after things."""
        self._task = asyncio.create_task(self._keep_house_for_ever())

    async def stop(self) -> None:
        """Stop, between two steps or within one: what is not committed is done again."""
        await tasks.end([self._task])

    async def step(self) -> bool:
        """Do a little of what is due; false when there is nothing more to do for now. Raises Unavailable."""
        has_closed = await self._close_hours()
        await self._apply_retention()
        has_purged = await purges.step(self._db)
        if has_purged:
            self._may_have_detached = True
        elif self._may_have_detached:  # perhaps by a runner that was killed before it could drop
            self._may_have_detached = await purges.drop_detached(self._db)
        return await self._delete_some_files() or has_closed or has_purged or self._may_have_detached

    async def _close_hours(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._close_at:
            return False
        self._close_at = now + CLOSE_EVERY_S * random.uniform(0.8, 1.2)  # noqa: S311 - runners should not meet
        closed = await tallies.close(self._db, limit=HOURS_AT_ONCE)
        if closed == HOURS_AT_ONCE:
            self._close_at = now
        return closed > 0

    async def _apply_retention(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._retention_days or now < self._retain_at:
            return
        self._retain_at = now + RETENTION_EVERY_S
        today = dt.datetime.now(dt.UTC).date()
        purge_id = await purges.create(self._db, self._retention_days, requested_by=RETENTION, automatic_on=today)
        if purge_id is not None:
            log.info("purge begins", purge_id=str(purge_id), days=self._retention_days)

    async def _delete_some_files(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._files_at:
            return False
        has_deleted = await purges.delete_files(self._db, self._store.delete_prefix)
        if not has_deleted:
            self._files_at = now + FILES_EVERY_S
        return has_deleted

    async def _keep_house_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                has_more = await self.step()
                pause_s = min(loop.time() - begun, LONGEST_PAUSE_S) if has_more else LOOK_EVERY_S
            except PenstockError as error:  # a lock that was not to be had at once is one of them
                log.debug("housekeeping waits", error=type(error).__name__)
                pause_s = RETRY_S
            except Exception:
                log.exception("housekeeping broke, trying again")
                pause_s = LOOK_EVERY_S
            await asyncio.sleep(pause_s)
