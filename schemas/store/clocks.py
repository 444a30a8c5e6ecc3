"""The table `clocks`: when schedules of kind `time` fire. The database's clock is the only one that counts."""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.firing import Clock, ClockStatus, DueClock, Firing, Slot
from schemas.ids import ids_at
from schemas.queue import Ring
from schemas.store.db import Db, queries

SQL = queries("clocks")


async def now(db: Db) -> dt.datetime:
    """Read the database's time."""
    moment: dt.datetime = await db.fetchval(SQL["now"])
    return moment


async def get(db: Db, schedule_id: uuid.UUID) -> Clock:
    """Read where a schedule's clock stands; raises NotFound when it has none."""
    row = await db.fetchrow(SQL["get"], schedule_id)
    if row is None:
        raise NotFound(f"Schedule {schedule_id} has no clock.")
    return msgspec.convert(row, Clock)


async def set_next(db: Db, schedule_id: uuid.UUID, slot: Slot | None) -> None:
    """Say which slot fires next; None ends the clock."""
    await db.execute(SQL["set"], schedule_id, slot and slot.slot, slot and slot.due_at)


async def list_page(
    db: Db, after: tuple[dt.datetime, uuid.UUID] | None, *, pipeline_id: str | None, limit: int
) -> list[ClockStatus]:
    """Read the clocks after the cursor (next fire, schedule), in the order in which they fire."""
    moment, schedule_id = after or (None, None)
    rows = await db.fetch(SQL["page"], moment, schedule_id, pipeline_id, limit)
    return [msgspec.convert(row, ClockStatus) for row in rows]


async def wait_s(db: Db) -> float | None:
    """Say in how many seconds the next clock is due, 0 or less when one is; None when none will."""
    seconds: float | None = await db.fetchval(SQL["wait"])
    return seconds


async def lock_due(db: Db, limit: int) -> list[DueClock]:
    """Lock clocks that are due, most overdue first, until the transaction ends; those that others hold are left out."""
    return [msgspec.convert(row, DueClock) for row in await db.fetch(SQL["lock_due"], limit)]


async def busy(db: Db, due: Sequence[DueClock]) -> set[uuid.UUID]:
    """Find the schedules of these clocks that have a queued or running run."""
    if not due:
        return set()
    schedules, pipelines = [clock.schedule_id for clock in due], [clock.pipeline_id for clock in due]
    return {row["id"] for row in await db.fetch(SQL["busy"], schedules, pipelines)}


async def fire(db: Db, firings: Sequence[Firing], *, at: dt.datetime) -> list[Ring]:
    """Queue a run for each slot and move the clocks; returns what to ring.

    The runs' ids are of the moment `at`, by the database's clock, and in the order of the slots.
    """
    slots = sorted((slot, firing.schedule_id) for firing in firings for slot in firing.slots)
    rows = await db.fetch(
        SQL["fire"],
        ids_at(at, len(slots)),
        [schedule_id for _, schedule_id in slots],
        [slot for slot, _ in slots],
        [firing.schedule_id for firing in firings],
        [firing.next and firing.next.slot for firing in firings],
        [firing.next and firing.next.due_at for firing in firings],
        [firing.slots[-1] if firing.slots else None for firing in firings],
        [firing.skipped for firing in firings],
    )
    return [Ring(*row) for row in rows]
