"""Schedules of kind `time`: what may be said of them, when their clocks are set, and when they fire next."""

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

from schemas.errors import Conflict, FieldError, Invalid
from schemas.firing import ClockStatus, Slot
from schemas.pages import Page
from schemas.schedules import NewSchedule, Schedule, SourceConfig
from schemas.states import Overlap, ScheduleKind
from schemas.store import clocks, schedules
from schemas.store.db import Database, Db
from schemas.timetables import Timetable, find_zone, jittered

MOST_MISSED = 1000  # that a new schedule may catch up
_TIMES = ("cron", "every_s", "timezone", "start_at", "end_at")
_NEVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)  # where clocks that have ended are sorted
_INSTANT = dt.timedelta.resolution
_ONLY_TIME: dict[str, Any] = {
    "cron": None,
    "every_s": None,
    "start_at": None,
    "end_at": None,
    "catchup": False,
    "jitter_s": 0,
    "overlap": Overlap.ALLOW,
}
_ONLY_API: dict[str, Any] = {
    "source": "generic",
    "source_config": SourceConfig(),
    "filter": None,
    "mapping": {},
    "dedupe": None,
    "split": False,
    "body_limit": None,
}


class Clocks:
    """Reads when schedules fire."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_page(self, page: Page, *, pipeline_id: str | None) -> list[ClockStatus]:
        """Read where the clocks stand, in the order in which they fire; raises Invalid for a cursor of another list."""
        return await clocks.list_page(self._db, _cursor(page), pipeline_id=pipeline_id, limit=page.limit + 1)

    async def list_next(self, key: str, count: int) -> list[Slot]:
        """Say when a schedule fires next, pauses left aside; raises NotFound, or Conflict when it has no clock."""
        schedule = await schedules.get(self._db, key)
        if schedule.kind is not ScheduleKind.TIME:
            raise Conflict(f"Schedule {schedule.number} is of kind api: it is started by a token, not by the clock.")
        clock = await clocks.get(self._db, schedule.id)
        after = clock.now
        if clock.next_slot is not None and clock.due_at is not None and clock.due_at > clock.now:
            after = min(after, clock.next_slot - _INSTANT)  # its slot has passed, its jitter has not
        return [_slot(schedule, slot) for slot in schedule.timetable().upcoming(after, count)]

    async def try_out(self, timetable: Timetable, count: int) -> list[dt.datetime]:
        """Say which slots a timetable would have from now on."""
        return timetable.upcoming(await clocks.now(self._db), count)


def cursor_of(clock: ClockStatus) -> str:
    """Say where the page after this clock begins."""
    return f"{(clock.next_fire_at or _NEVER).isoformat()}|{clock.schedule_id}"


def check_new(new: NewSchedule) -> None:
    """Refuse what does not fit the kind of a new schedule; raises Invalid."""
    if new.kind is ScheduleKind.API:
        _refuse({name: getattr(new, name) for name in _ONLY_TIME}, _ONLY_TIME, "only a schedule of kind time has it")
        find_zone(new.timezone)
    else:
        _refuse({name: getattr(new, name) for name in _ONLY_API}, _ONLY_API, "a schedule of kind time has none")
        Timetable.parse(new.cron, new.every_s, new.timezone, new.start_at, new.end_at)
        _check_jitter(new.every_s, new.jitter_s)


def check_patch(old: Schedule, given: dict[str, Any]) -> dict[str, Any]:
    """Refuse what does not fit a schedule's kind; a cron replaces an interval, and the other way. Raises Invalid."""
    if old.kind is ScheduleKind.API:
        _refuse(given, _ONLY_TIME, "only a schedule of kind time has it")
        return given
    _refuse(given, _ONLY_API, "a schedule of kind time has none")
    for name, other in (("cron", "every_s"), ("every_s", "cron")):
        if given.get(name) is not None:
            given = {other: None} | given
    return given


def check_changed(changed: Schedule) -> None:
    """Refuse times that do not go together; raises Invalid."""
    find_zone(changed.timezone)
    if changed.kind is ScheduleKind.TIME:
        changed.timetable()
        _check_jitter(changed.every_s, changed.jitter_s)


def must_take_calls(schedule: Schedule) -> None:
    """Refuse a token or link for a schedule that only the clock starts; raises Conflict."""
    if schedule.kind is ScheduleKind.TIME:
        raise Conflict(
            f"Schedule {schedule.number} is of kind time: the clock starts it, so it has no tokens or links. Make one "
            "of kind api for those who call, or trigger its pipeline."
        )


async def start(db: Db, schedule: Schedule) -> Schedule:
    """Set the clock of a new schedule, with `catchup` to its start even if that has passed; raises Invalid."""
    if schedule.kind is not ScheduleKind.TIME:
        return schedule
    table, now = schedule.timetable(), await clocks.now(db)
    after = now
    if schedule.catchup and schedule.start_at is not None and schedule.start_at < now:
        after = schedule.start_at - _INSTANT
        if len(table.between(schedule.start_at, now, MOST_MISSED + 1)) > MOST_MISSED:
            raise _wrong("start_at", f"more than {MOST_MISSED} runs would be caught up at once; a backfill paces them")
    slot = table.next(after)
    if slot is None:
        raise _wrong("end_at" if schedule.end_at else "cron", "it would never fire")
    await clocks.set_next(db, schedule.id, _slot(schedule, slot))
    return await schedules.get(db, str(schedule.id))


async def restart(db: Db, old: Schedule, changed: Schedule) -> Schedule:
    """Set the clock of a schedule that shall fire at other times to its first slot from now on.

    What was missed before is not caught up then. Another jitter alone moves no slot.
    """
    moved = [name for name in (*_TIMES, "jitter_s") if getattr(old, name) != getattr(changed, name)]
    if not moved:
        return changed
    clock = await clocks.get(db, changed.id)
    slot = clock.next_slot if moved == ["jitter_s"] else changed.timetable().next(clock.now)
    await clocks.set_next(db, changed.id, _slot(changed, slot) if slot else None)
    return await schedules.get(db, str(changed.id))


def _slot(schedule: Schedule, slot: dt.datetime) -> Slot:
    return Slot(slot=slot, due_at=jittered(slot, schedule.id, schedule.jitter_s))


def _refuse(given: Mapping[str, Any], unset: Mapping[str, Any], message: str) -> None:
    for name, value in given.items():
        if name in unset and value != unset[name]:
            raise _wrong(name, message)


def _check_jitter(every_s: int | None, jitter_s: int) -> None:
    if every_s is not None and jitter_s >= every_s:
        raise _wrong("jitter_s", "it must be smaller than every_s")


def _cursor(page: Page) -> tuple[dt.datetime, uuid.UUID] | None:
    if page.after is None:
        return None
    moment, _, schedule_id = page.after.partition("|")
    try:
        return dt.datetime.fromisoformat(moment).astimezone(dt.UTC), uuid.UUID(schedule_id)
    except (ValueError, OverflowError):
        raise Invalid("This cursor is not one of ours; start again without it.") from None


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}.", errors=(FieldError(f"/{field}", message),))
