"""The clocks of schedules of kind `time`: where each stands, and what it has fired."""

import datetime as dt
import uuid

import msgspec

from schemas.states import Overlap
from schemas.timetables import Timetable


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A moment that a timetable names, and when it fires: the same with its jitter."""

    slot: dt.datetime
    due_at: dt.datetime


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Where a schedule's clock stands; no next slot means that it has ended. `now` is the database's time."""

    schedule_id: uuid.UUID
    next_slot: dt.datetime | None
    due_at: dt.datetime | None
    last_slot: dt.datetime | None
    last_fired_at: dt.datetime | None
    skipped: int
    now: dt.datetime


class ClockStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A clock as `GET /v1/scheduler` shows it.

    `is_paused` says it of the schedule or its pipeline; `lag_s` is by how many seconds it is overdue, null while it is
    paused or after its end.
    """

    schedule_id: uuid.UUID
    number: int
    name: str
    pipeline_id: str
    cron: str | None
    every_s: int | None
    timezone: str
    is_paused: bool
    next_fire_at: dt.datetime | None
    last_slot: dt.datetime | None
    last_fired_at: dt.datetime | None
    skipped: int
    lag_s: float | None


class DueClock(msgspec.Struct, frozen=True, kw_only=True):
    """A clock whose time has come, locked by whoever fires it, with what its schedule says."""

    schedule_id: uuid.UUID
    next_slot: dt.datetime
    pipeline_id: str
    cron: str | None
    every_s: int | None
    timezone: str
    start_at: dt.datetime | None
    end_at: dt.datetime | None
    catchup: bool
    jitter_s: int
    overlap: Overlap
    now: dt.datetime

    def timetable(self) -> Timetable:
        """Read when it fires; raises Invalid."""
        return Timetable.parse(self.cron, self.every_s, self.timezone, self.start_at, self.end_at)


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a due clock: the slots that get a run, oldest first, how many get none, and what comes next."""

    schedule_id: uuid.UUID
    slots: tuple[dt.datetime, ...]
    skipped: int
    next: Slot | None
