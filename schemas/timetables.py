"""When a schedule of kind `time` fires: cron in a time zone, or a fixed interval. Pure: callers say what time it is.

A moment that a timetable names is a *slot*. Cron follows the rules of Debian's cron(8), which people know, on the days
when a zone moves its clocks:

* A fixed time of day, that is a cron whose minute and hour both do not begin with `*`, fires once for each day that it
  names. A time that the clocks skip fires at the first moment after the gap, one that they show twice the first time.
* Any other cron (`*/15 * * * *`, `30 * * * *`, `0 */2 * * *`) fires at each real moment whose wall clock matches: what
  the clocks skip does not come, what they show twice comes twice. So an hourly job fires every real hour.

cronsim parses and walks wall clocks; the zones are handled here, since it steps over slots where a shift is not a whole
hour (Australia/Lord_Howe) or skips midnight (Africa/Cairo).
"""

import copy
import datetime as dt
import difflib
import hashlib
import uuid
import zoneinfo
from typing import Protocol

from cronsim import CronSim, CronSimError

from schemas.errors import FieldError, Invalid

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L or 5#2",
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)
_SECOND = dt.timedelta(seconds=1)
_INSTANT = dt.timedelta.resolution


class Timetable:
    """The slots of one schedule: whole seconds for a cron, exact multiples for an interval; all in UTC, in order."""

    def __init__(self, rule: "_Rule", *, start_at: dt.datetime | None, end_at: dt.datetime | None) -> None:
        self._rule = rule
        self._start_at = start_at
        self._end_at = end_at

    @classmethod
    def parse(
        cls,
        cron: str | None = None,
        every_s: int | None = None,
        timezone: str = "UTC",
        start_at: dt.datetime | None = None,
        end_at: dt.datetime | None = None,
    ) -> "Timetable":
        """Read what a schedule says: `cron` (5 fields, 6 with seconds first, or @daily and the like) or `every_s`.

        An interval counts from `start_at`, or from 1970-01-01T00:00Z when there is none. Both ends belong to the
        timetable. Raises Invalid that points at the wrong field.
        """
        if (cron is None) == (every_s is None):
            raise _wrong("cron", "a time schedule has either cron or every_s, and not both")
        if start_at is not None and end_at is not None and end_at < start_at:
            raise _wrong("end_at", "it is before start_at")
        zone = find_zone(timezone)
        rule: _Rule
        if cron is not None:
            rule = _Cron(cron, zone)
        elif every_s is not None and every_s > 0:
            rule = _Every(every_s, start_at or _EPOCH)
        else:
            raise _wrong("every_s", "it is a number of seconds above 0")
        return cls(rule, start_at=start_at, end_at=end_at)

    def next(self, after: dt.datetime) -> dt.datetime | None:
        """Find the first slot after a moment, and not at it; None when there is none, or none within 50 years."""
        after = after.astimezone(dt.UTC)
        if self._start_at is not None:
            after = max(after, self._start_at.astimezone(dt.UTC) - _INSTANT)
        try:
            slot = self._rule.next(after)
        except OverflowError:  # the year 10000
            return None
        return None if slot is None or (self._end_at is not None and slot > self._end_at) else slot

    def between(self, first: dt.datetime, last: dt.datetime, limit: int) -> list[dt.datetime]:
        """List the slots from `first` to `last`, both included, at most `limit` of them, oldest first."""
        slots: list[dt.datetime] = []
        slot = self.next(first - _INSTANT)
        while slot is not None and slot <= last and len(slots) < limit:
            slots.append(slot)
            slot = self.next(slot)
        return slots

    def upcoming(self, after: dt.datetime, count: int) -> list[dt.datetime]:
        """List the next slots after a moment."""
        slots: list[dt.datetime] = []
        while len(slots) < count and (slot := self.next(slots[-1] if slots else after)) is not None:
            slots.append(slot)
        return slots

    def latest(self, first: dt.datetime, last: dt.datetime) -> dt.datetime | None:
        """Find the last slot from `first` to `last`, both included, in some 30 steps however many lie between."""
        found = self.next(first - _INSTANT)
        if found is None or found > last:
            return None
        start, low, high = found, 0, (last - found) // _SECOND + 1  # a slot is `low` s after start, none `high` or more
        while high - low > 1:
            middle = (low + high) // 2
            slot = self.next(start + middle * _SECOND - _INSTANT)
            if slot is None or slot > last:
                high = middle
            else:
                found, low = slot, (slot - start) // _SECOND
        return found


def jittered(slot: dt.datetime, schedule_id: uuid.UUID, jitter_s: int) -> dt.datetime:
    """Say when a slot is due: up to `jitter_s` seconds after it, the same for each runner that asks."""
    if not jitter_s:
        return slot
    digest = hashlib.sha256(schedule_id.bytes + slot.astimezone(dt.UTC).isoformat().encode()).digest()
    share = int.from_bytes(digest[:8], "big") / (1 << 64)
    return slot + dt.timedelta(milliseconds=round(share * jitter_s * 1000))


class _Rule(Protocol):
    """What names the slots, before and without any end."""

    def next(self, after: dt.datetime) -> dt.datetime | None: ...


class _Every:
    """A fixed number of real seconds between two slots, whatever the clocks on the walls do."""

    def __init__(self, every_s: int, anchor: dt.datetime) -> None:
        self._every = every_s * _SECOND
        self._anchor = anchor.astimezone(dt.UTC)

    def next(self, after: dt.datetime) -> dt.datetime:
        return self._anchor + max((after - self._anchor) // self._every + 1, 0) * self._every


class _Cron:
    """Wall clocks that match, turned into real moments."""

    def __init__(self, cron: str, zone: zoneinfo.ZoneInfo) -> None:
        self._zone = zone
        self._walk = _parse(cron)
        times = self._walk.parts[1:3]
        self._is_fixed = not any(field.startswith("*") for field in times)

    def next(self, after: dt.datetime) -> dt.datetime | None:
        return self._next_fixed(after) if self._is_fixed else self._next_real(after)

    def _next_fixed(self, after: dt.datetime) -> dt.datetime | None:
        wall = self._match((after + self._offset(after)).replace(tzinfo=None))
        while wall is not None:
            moment = self._first_moment_of(wall)
            if moment > after:
                return moment
            wall = self._match(wall)
        return None

    def _next_real(self, after: dt.datetime) -> dt.datetime | None:
        offset = self._offset(after)
        begin = (after + offset).replace(tzinfo=None)
        wall = self._match(begin)
        while wall is not None:
            moment = (wall - offset).replace(tzinfo=dt.UTC)
            change = self._next_change(after, moment)
            if change is None:
                return moment
            after, offset = change, self._offset(change)
            anew = (after + offset - _INSTANT).replace(tzinfo=None)
            if not begin <= anew < wall:
                begin, wall = anew, self._match(anew)
        return None

    def _match(self, after: dt.datetime) -> dt.datetime | None:
        """Find the next wall clock that matches, as if no clock were ever moved."""
        walk = copy.copy(self._walk)
        walk.dt = after.replace(microsecond=0)
        return next(walk, None)

    def _first_moment_of(self, wall: dt.datetime) -> dt.datetime:
        moment = wall.replace(tzinfo=self._zone).astimezone(dt.UTC)
        if (moment + self._offset(moment)).replace(tzinfo=None) == wall:
            return moment
        before = wall.replace(tzinfo=self._zone, fold=1).astimezone(dt.UTC)  # PEP 495: of a gap, by the offset after it
        return self._next_change(before, moment) or moment

    def _next_change(self, first: dt.datetime, last: dt.datetime) -> dt.datetime | None:
        """Find the first moment after `first`, up to `last`, at which the zone has another offset."""
        offset = self._offset(first)
        while first < last:
            step = min(first + _DAY, last)
            if self._offset(step) != offset:
                break
            first = step
        else:
            return None
        low, high = int(first.timestamp() // 1), int(step.timestamp() // 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(_EPOCH + middle * _SECOND) == offset:
                low = middle
            else:
                high = middle
        return _EPOCH + high * _SECOND

    def _offset(self, moment: dt.datetime) -> dt.timedelta:
        return moment.astimezone(self._zone).utcoffset() or dt.timedelta()


def _parse(cron: str) -> CronSim:
    text = cron.strip()
    if text.startswith("@"):
        if text.lower() not in _ALIASES:
            raise _wrong("cron", f"there is no {text!r}; there are {', '.join(_ALIASES)}")
        text = _ALIASES[text.lower()]
    fields = text.split()
    if len(fields) not in (5, 6):
        order = "minute hour day-of-month month day-of-week, and perhaps seconds before them"
        raise _wrong("cron", f"it has {len(fields)} fields; it takes {order}")
    try:
        return CronSim(text, _EPOCH.replace(tzinfo=None))
    except (CronSimError, AssertionError) as error:
        raise _wrong("cron", _explain(str(error), fields)) from None


def _explain(error: str, fields: list[str]) -> str:
    name = error.removeprefix("Bad ")
    if name not in _FIELDS:
        return "it cannot be read; a cron looks like 30 3 * * MON-FRI"
    value = fields[list(_FIELDS).index(name) - len(_FIELDS)]
    never = ", or its months have no such day" if name == "day-of-month" else ""
    return f"the {name} {value!r} is not valid{never}; it takes {_FIELDS[name]}, lists a,b, ranges a-b and steps */n"


def find_zone(name: str) -> zoneinfo.ZoneInfo:
    """Find a time zone by its IANA name; raises Invalid that points at `timezone`."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "it takes an IANA name such as Europe/Paris"
        raise _wrong("timezone", f"there is no time zone {name!r}; {hint}") from None


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(
        f"{field}: {message}{'' if message.endswith('?') else '.'}", errors=(FieldError(f"/{field}", message),)
    )
