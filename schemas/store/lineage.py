"""What leads to what: schedules, pipelines and their graphs, and runs that came from runs."""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from schemas.ids import floor_of
from schemas.overviews import RelatedRun, Starter
from schemas.pipelines import Graph
from schemas.store.db import Db, queries

SQL = queries("lineage")


async def starters(db: Db, *, limit: int) -> list[Starter]:
    """Read the newest schedules."""
    return [msgspec.convert(row, Starter) for row in await db.fetch(SQL["starters"], limit)]


async def graphs(db: Db, *, limit: int) -> dict[str, Graph | None]:
    """Read the graphs of pipelines by name."""
    return {row["id"]: msgspec.convert(row["graph"], Graph | None) for row in await db.fetch(SQL["graphs"], limit)}


async def triggers(db: Db, since: dt.datetime, *, limit: int) -> list[tuple[str, str]]:
    """Find pairs of pipelines of which the first triggered the second, among so many of the newest such runs."""
    return [(row["source"], row["target"]) for row in await db.fetch(SQL["triggers"], floor_of(since), limit)]


async def ancestors(db: Db, run_id: uuid.UUID, *, limit: int) -> list[RelatedRun]:
    """Read a run and those that it came from, the nearest first."""
    return [msgspec.convert(row, RelatedRun) for row in await db.fetch(SQL["ancestors"], run_id, limit)]


async def children(db: Db, run_ids: Sequence[uuid.UUID], *, limit: int) -> list[RelatedRun]:
    """Read the runs that came from these directly, the oldest first."""
    return [msgspec.convert(row, RelatedRun) for row in await db.fetch(SQL["children"], run_ids, limit)]
