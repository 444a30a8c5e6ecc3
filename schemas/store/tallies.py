"""The table `tallies`: runs counted per hour, so that a calendar does not count a million of them."""

import datetime as dt
from collections.abc import Sequence

import msgspec

from schemas.overviews import Day, Failing, Hour, RunTotals
from schemas.store.db import Database, Db, queries

SQL = queries("tallies")


async def close(db: Database, *, limit: int) -> int:
    """Count so many of the hours that are over; returns how many, 0 also while somebody else is at it."""
    async with db.transaction() as transaction:
        if not await transaction.fetchval(SQL["lock"]):
            return 0
        closed: int = await transaction.fetchval(SQL["close"], limit)
        return closed


async def hours(db: Db, since: dt.datetime) -> list[Hour]:
    """Read the counts of each hour since a full hour."""
    return [msgspec.convert(row, Hour) for row in await db.fetch(SQL["hours"], since)]


async def days(db: Db, first: dt.date, *, pipeline_id: str | None) -> list[Day]:
    """Read the counts of each day since the first in which there are runs, of all pipelines or of one."""
    since = dt.datetime.combine(first, dt.time(), dt.UTC)
    return [msgspec.convert(row, Day) for row in await db.fetch(SQL["days"], since, pipeline_id or "")]


async def failing(db: Db, since: dt.datetime, *, limit: int) -> list[Failing]:
    """Find the pipelines that failed most often since a full hour."""
    return [msgspec.convert(row, Failing) for row in await db.fetch(SQL["failing"], since, limit)]


async def totals(db: Db, pipeline_ids: Sequence[str]) -> dict[str, RunTotals]:
    """Count the runs of each of these pipelines by their state."""
    found = [msgspec.convert(row, RunTotals) for row in await db.fetch(SQL["totals"], pipeline_ids)]
    return {counted.pipeline_id: counted for counted in found}
