"""The table `schedules`."""

import uuid
from collections.abc import Collection, Sequence

import msgspec

from schemas.errors import NotFound
from schemas.ids import id_or_number, new_id
from schemas.pages import MOST_COUNTED, Counted, Span
from schemas.schedules import Gate, NewSchedule, Schedule, ScheduleFilter, ScheduleName
from schemas.store.db import Db, queries

SQL = queries("schedules")
_SETTABLE = (
    "name",
    "source",
    "source_config",
    "filter",
    "mapping",
    "dedupe",
    "split",
    "is_paused",
    "on_paused",
    "max_active_runs",
    "body_limit",
    "cron",
    "every_s",
    "timezone",
    "start_at",
    "end_at",
    "catchup",
    "jitter_s",
    "overlap",
    "sla_s",
    "run_timeout_s",
    "max_queue_age_s",
    "notify",
)


async def create(db: Db, new: NewSchedule) -> Schedule:
    """Write a new schedule."""
    values = (getattr(new, name) for name in _SETTABLE)
    variables = msgspec.json.encode(new.variables)
    schedule_id = await db.fetchval(SQL["create"], new_id(), new.pipeline_id, new.kind, variables, *values)
    return await get(db, str(schedule_id))


async def get(db: Db, key: str) -> Schedule:
    """Read a schedule by its id or its number; raises NotFound."""
    row = await db.fetchrow(SQL["get"], *id_or_number(key))
    if row is None:
        raise NotFound(f"There is no schedule {key}.")
    return msgspec.convert(row, Schedule)


async def lock(db: Db, key: str) -> Schedule:
    """Read a schedule that this transaction is about to change; raises NotFound."""
    await db.execute(SQL["lock"], *id_or_number(key))
    return await get(db, key)


async def list_page(
    db: Db, before: uuid.UUID | None, *, pipeline_id: str | None, source: str | None, q: str | None, limit: int
) -> list[Schedule]:
    """Read the newest schedules before the cursor `before`."""
    rows = await db.fetch(SQL["page"], before, pipeline_id, source, q, limit)
    return [msgspec.convert(row, Schedule) for row in rows]


async def list_span(db: Db, span: Span, which: ScheduleFilter) -> Counted[Schedule]:
    """Read a part of the schedules that match, the newest first, and how many do."""
    asked = which.pipeline_id, which.kinds or None, which.is_paused
    rows = await db.fetch(SQL["span"], *asked, span.offset, span.limit)
    total = await db.fetchval(SQL["span_count"], *asked, MOST_COUNTED)
    return Counted([msgspec.convert(row, Schedule) for row in rows], total)


async def names(db: Db, schedule_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, ScheduleName]:
    """Read what these schedules are called, also those that are deleted."""
    rows = await db.fetch(SQL["names"], list(schedule_ids)) if schedule_ids else []
    return {row["id"]: msgspec.convert(row, ScheduleName) for row in rows}


async def timed_of_pipelines(db: Db, pipeline_ids: Sequence[str]) -> dict[str, Schedule]:
    """Read the oldest schedule of kind time of each of these pipelines that has any."""
    rows = await db.fetch(SQL["timed_of_pipelines"], pipeline_ids)
    return {row["pipeline_id"]: msgspec.convert(row, Schedule) for row in rows}


async def update(db: Db, schedule: Schedule) -> Schedule:
    """Write a changed schedule; raises NotFound when it was deleted meanwhile."""
    values = (getattr(schedule, name) for name in _SETTABLE)
    if await db.fetchval(SQL["update"], schedule.id, schedule.variables, *values) is None:
        raise NotFound(f"There is no schedule {schedule.id}.")
    return await get(db, str(schedule.id))


async def delete(db: Db, schedule_id: uuid.UUID) -> None:
    """Mark a schedule as deleted: its tokens and links stop working at once."""
    await db.fetchrow(SQL["delete"], schedule_id)


async def gates(db: Db, schedule_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Gate]:
    """Read what judging a delivery to these schedules takes; those that are deleted are left out."""
    return {row["schedule_id"]: msgspec.convert(row, Gate) for row in await db.fetch(SQL["gates"], schedule_ids)}
