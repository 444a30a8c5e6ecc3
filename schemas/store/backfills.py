"""The table `backfills`, and the runs that hang on its rows."""

import uuid
from collections.abc import Collection

import msgspec

from schemas.backfills import Backfill, PlannedBackfill
from schemas.errors import NotFound
from schemas.ids import id_or_number
from schemas.pages import MOST_COUNTED, Counted, Span
from schemas.store.db import Db, queries

SQL = queries("backfills")


async def create(db: Db, planned: PlannedBackfill) -> uuid.UUID | None:
    """Write a backfill with its runs and return its id; None when its key was used for this pipeline before."""
    created: uuid.UUID | None = await db.fetchval(
        SQL["create"],
        planned.id,
        planned.pipeline_id,
        planned.schedule_id,
        planned.key,
        planned.dates[0],
        planned.dates[-1],
        planned.every,
        planned.timezone,
        planned.variables,
        planned.max_active_runs,
        planned.run_ids,
        planned.dates,
        planned.date_variable,
    )
    return created


async def find_by_key(db: Db, pipeline_id: str, key: str) -> uuid.UUID | None:
    """Find the backfill of a pipeline that has this key."""
    found: uuid.UUID | None = await db.fetchval(SQL["by_key"], pipeline_id, key)
    return found


async def find_id(db: Db, key: str) -> uuid.UUID:
    """Resolve an id or number; raises NotFound."""
    backfill_id: uuid.UUID | None = await db.fetchval(SQL["exists"], *id_or_number(key))
    if backfill_id is None:
        raise NotFound(f"There is no backfill {key}.")
    return backfill_id


async def run_ids(db: Db, backfill_id: uuid.UUID) -> list[uuid.UUID]:
    """List the runs of a backfill in the order of their dates."""
    return [row["id"] for row in await db.fetch(SQL["run_ids"], backfill_id)]


async def numbers(db: Db, backfill_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Read the numbers of these backfills."""
    return {row["id"]: row["number"] for row in await db.fetch(SQL["numbers"], list(backfill_ids))}


async def get(db: Db, key: str) -> Backfill:
    """Read a backfill by its id or its number; raises NotFound."""
    row = await db.fetchrow(SQL["get"], *id_or_number(key))
    if row is None:
        raise NotFound(f"There is no backfill {key}.")
    return msgspec.convert(row, Backfill)


async def list_page(
    db: Db, before: uuid.UUID | None, *, pipeline_id: str | None, state: str | None, limit: int
) -> list[Backfill]:
    """Read the newest backfills before the cursor `before`."""
    rows = await db.fetch(SQL["page"], before, pipeline_id, state, limit)
    return [msgspec.convert(row, Backfill) for row in rows]


async def list_span(db: Db, span: Span, *, pipeline_id: str | None, oldest_first: bool) -> Counted[Backfill]:
    """Read a part of the backfills, the newest first, and how many there are."""
    rows = await db.fetch(SQL["span"], pipeline_id, span.offset, span.limit, oldest_first)
    total = await db.fetchval(SQL["count"], pipeline_id, MOST_COUNTED)
    return Counted([msgspec.convert(row, Backfill) for row in rows], total)


async def set_paused(db: Db, backfill_id: uuid.UUID, *, is_paused: bool) -> bool:
    """Pause or unpause; False when it is cancelled."""
    return await db.fetchval(SQL["set_paused"], backfill_id, is_paused) is not None


async def set_limit(db: Db, backfill_id: uuid.UUID, max_active_runs: int) -> bool:
    """Say how many of its runs may execute at the same time; False when it is cancelled."""
    return await db.fetchval(SQL["set_limit"], backfill_id, max_active_runs) is not None


async def waiting(db: Db, backfill_id: uuid.UUID) -> list[tuple[uuid.UUID, int, str]]:
    """Read (id, dispatch, queue) of the runs that come next, as many as may execute at the same time."""
    return [tuple(row) for row in await db.fetch(SQL["waiting"], backfill_id)]


async def cancel(db: Db, backfill_id: uuid.UUID) -> bool:
    """End a backfill; False when all its runs have ended or it is cancelled. The active ones are left to the caller."""
    return await db.fetchval(SQL["cancel"], backfill_id) is not None


async def active(db: Db, backfill_id: uuid.UUID) -> list[uuid.UUID]:
    """Find its runs that have not ended."""
    return [row["id"] for row in await db.fetch(SQL["active"], backfill_id)]
