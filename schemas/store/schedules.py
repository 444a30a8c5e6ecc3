"""The table `schedules`."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.ids import id_or_number, new_id
from schemas.schedules import NewSchedule, Schedule
from schemas.store.db import Db, queries

SQL = queries("schedules")


async def create(db: Db, new: NewSchedule) -> Schedule:
    """Write a new schedule."""
    row = await db.fetchrow(
        SQL["create"],
        new_id(),
        new.pipeline_id,
        new.name,
        new.kind,
        new.source,
        new.source_config,
        msgspec.json.encode(new.variables),
        new.is_paused,
        new.on_paused,
        new.max_active_runs,
        new.body_limit,
        new.cron,
        new.every_s,
        new.timezone,
        new.start_at,
        new.end_at,
        new.catchup,
        new.jitter_s,
        new.overlap,
        new.sla_s,
        new.run_timeout_s,
        new.max_queue_age_s,
        new.notify,
    )
    return msgspec.convert(row, Schedule)


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


async def timed_of_pipelines(db: Db, pipeline_ids: Sequence[str]) -> dict[str, Schedule]:
    """Read the oldest schedule of kind time of each of these pipelines that has any."""
    rows = await db.fetch(SQL["timed_of_pipelines"], pipeline_ids)
    return {row["pipeline_id"]: msgspec.convert(row, Schedule) for row in rows}


async def update(db: Db, schedule: Schedule) -> Schedule:
    """Write a changed schedule; raises NotFound when it was deleted meanwhile."""
    row = await db.fetchrow(
        SQL["update"],
        schedule.id,
        schedule.name,
        schedule.source,
        schedule.source_config,
        schedule.variables,
        schedule.is_paused,
        schedule.on_paused,
        schedule.max_active_runs,
        schedule.body_limit,
        schedule.cron,
        schedule.every_s,
        schedule.timezone,
        schedule.start_at,
        schedule.end_at,
        schedule.catchup,
        schedule.jitter_s,
        schedule.overlap,
        schedule.sla_s,
        schedule.run_timeout_s,
        schedule.max_queue_age_s,
        schedule.notify,
    )
    if row is None:
        raise NotFound(f"There is no schedule {schedule.id}.")
    return msgspec.convert(row, Schedule)


async def delete(db: Db, schedule_id: uuid.UUID) -> None:
    """Mark a schedule as deleted: its tokens and links stop working at once."""
    await db.fetchrow(SQL["delete"], schedule_id)
