"""What many tables say together: the queue, the last failures, next fires, sizes, runners."""

import datetime as dt

import msgspec

from schemas.ids import floor_of
from schemas.overviews import Failure, NextFire, Queue, RunnerState, TableSize
from schemas.store.db import Db, queries

SQL = queries("overviews")
LARGEST_COUNT = 10_000


async def queue(db: Db) -> Queue:
    """Count the active runs."""
    return msgspec.convert(await db.fetchrow(SQL["queue"]), Queue)


async def last_failures(db: Db, *, limit: int) -> list[Failure]:
    """Read the newest runs that failed."""
    return [msgspec.convert(row, Failure) for row in await db.fetch(SQL["last_failures"], limit)]


async def count_rejected(db: Db, since: dt.datetime) -> int:
    """Count the deliveries that were rejected, up to 10,000."""
    count: int = await db.fetchval(SQL["rejected"], floor_of(since), LARGEST_COUNT)
    return count


async def next_fires(db: Db, *, limit: int) -> list[NextFire]:
    """Read which time schedules fire next."""
    return [msgspec.convert(row, NextFire) for row in await db.fetch(SQL["next_fires"], limit)]


async def sizes(db: Db) -> list[TableSize]:
    """Measure the tables that grow."""
    return [msgspec.convert(row, TableSize) for row in await db.fetch(SQL["sizes"])]


async def database(db: Db) -> tuple[int, int]:
    """Return the size of the database in bytes, and how many pipelines there are."""
    row = await db.fetchrow(SQL["database"])
    return (row["bytes"], row["pipelines"]) if row else (0, 0)


async def runners(db: Db) -> list[RunnerState]:
    """Read the runners that are registered."""
    return [msgspec.convert(row, RunnerState) for row in await db.fetch(SQL["runners"])]
