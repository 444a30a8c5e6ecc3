"""Which logical dates a backfill has: the slots of its timetable between two moments. Pure."""

import datetime as dt
import re
import zoneinfo

import msgspec

from schemas.backfills import MOST_DATES, NewBackfill
from schemas.errors import FieldError, Invalid
from schemas.schedules import Moment, Schedule
from schemas.timetables import Timetable

_NAMED = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DAY = dt.timedelta(days=1)
_INSTANT = dt.timedelta.resolution


class Rhythm(msgspec.Struct, frozen=True):
    """What names the dates: a cron or an interval whose slots lie around `anchor`, in a time zone."""

    cron: str | None
    every_s: int | None
    anchor: dt.datetime | None
    timezone: str


def rhythm_of(new: NewBackfill, schedule: Schedule | None) -> Rhythm:
    """Read `every` and the time zone of a request; raises Invalid."""
    timezone = new.timezone or (schedule.timezone if schedule else "UTC")
    if new.every == "schedule":
        if schedule is None:
            raise _wrong("schedule_id", "it is needed to run every time that a schedule names")
        if schedule.cron is None and schedule.every_s is None:
            raise _wrong("every", "this schedule is started by a token, not by the clock; say hour, day, or a cron")
        return Rhythm(schedule.cron, schedule.every_s, schedule.start_at, timezone)
    cron = _NAMED.get(new.every, new.every)
    if not (" " in cron.strip() or cron.startswith("@")):
        raise _wrong("every", f"it is one of {', '.join(_NAMED)}, schedule, or a cron such as '30 3 * * MON-FRI'")
    return Rhythm(cron, None, None, timezone)


def list_dates(new: NewBackfill, rhythm: Rhythm) -> list[dt.datetime]:
    """List the logical dates in order, in UTC; raises Invalid when there is none, or more than MOST_DATES.

    Some 20 us for each date.
    """
    timetable = _timetable(rhythm, None)  # also checks the time zone
    zone = zoneinfo.ZoneInfo(rhythm.timezone)
    first, last = _start(new.start, zone), _end(new.end, zone)
    if last < first:
        raise _wrong("end", "it is before start")
    if rhythm.every_s is not None:
        timetable = _timetable(rhythm, _anchored(rhythm, first))
    dates = timetable.between(first, last, MOST_DATES + 1)
    if not dates:
        raise _wrong("end", f"no date of every {new.every!r} lies between start and end")
    if len(dates) > MOST_DATES:
        raise _wrong("end", f"a backfill has at most {MOST_DATES} dates; the limit is reached at {_show(dates[-2])}")
    return dates


def _timetable(rhythm: Rhythm, start_at: dt.datetime | None) -> Timetable:
    try:
        return Timetable.parse(rhythm.cron, rhythm.every_s, rhythm.timezone, start_at)
    except Invalid as error:
        errors = tuple(FieldError(field.pointer.replace("/cron", "/every"), field.message) for field in error.errors)
        raise Invalid(error.message.replace("cron:", "every:", 1), errors=errors) from None


def _anchored(rhythm: Rhythm, first: dt.datetime) -> dt.datetime | None:
    """Move the anchor of an interval back by whole steps, since a schedule has no slots before it begins."""
    if rhythm.anchor is None or rhythm.every_s is None or rhythm.anchor <= first:
        return rhythm.anchor
    step = dt.timedelta(seconds=rhythm.every_s)
    return rhythm.anchor - -((first - rhythm.anchor) // step) * step


def _start(text: str, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    day = _date(text, "start")
    return _midnight(day, zone, "start") if day else _moment(text, "start")


def _end(text: str, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    day = _date(text, "end")
    return _midnight(day, zone, "end", days=1) - _INSTANT if day else _moment(text, "end")


def _date(text: str, field: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError as error:
        raise _wrong(field, f"there is no such date: {error}") from None


def _midnight(day: dt.date, zone: zoneinfo.ZoneInfo, field: str, *, days: int = 0) -> dt.datetime:
    try:
        return dt.datetime.combine(day + days * _DAY, dt.time(), zone).astimezone(dt.UTC)
    except OverflowError:
        raise _wrong(field, "it is too far away") from None


def _moment(text: str, field: str) -> dt.datetime:
    try:
        return msgspec.convert(text, Moment).astimezone(dt.UTC)
    except msgspec.ValidationError:
        raise _wrong(
            field, "it is a date such as 2024-01-31, or an RFC 3339 time such as 2024-01-31T12:00:00Z"
        ) from None
    except OverflowError:
        raise _wrong(field, "it is too far away") from None


def _show(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}.", errors=(FieldError(f"/{field}", message),))
