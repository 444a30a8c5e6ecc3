"""Ids: UUIDv7 (RFC 9562, section 5.7), which sort by the time they were made, also within one millisecond.

Schedules and runs can also be named by their plain integer `number`.
"""

import datetime as dt
import os
import time
import uuid

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_COUNTER_BITS = 42
_LARGEST_NUMBER = 2**63 - 1
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LAST_MS = 253_370_764_800_000  # the year 9999
SMALLEST_ID = uuid.UUID(int=0)
LARGEST_ID = uuid.UUID(int=2**128 - 1)


class _Clock:
    """The last id's millisecond and counter, so that ids of one process never go back."""

    def __init__(self) -> None:
        self._ms = 0
        self._counter = 0

    def next(self) -> tuple[int, int]:
        ms = time.time_ns() // 1_000_000
        if ms > self._ms:
            self._ms = ms
            self._counter = int.from_bytes(os.urandom(5), "big")
        else:
            self._counter += 1
        return self._ms, self._counter


_clock = _Clock()


def new_id() -> uuid.UUID:
    """Make a UUIDv7: 48 bits of milliseconds, a counter that starts at random, 32 random bits."""
    return _pack(*_clock.next())


def ids_at(moment: dt.datetime, count: int) -> list[uuid.UUID]:
    """Make UUIDv7s of a moment that somebody else's clock told, in ascending order."""
    start = int.from_bytes(os.urandom(5), "big")
    return [_pack(int(moment.timestamp() * 1000), start + number) for number in range(count)]


def _pack(ms: int, counter: int) -> uuid.UUID:
    counter &= (1 << _COUNTER_BITS) - 1
    high, low = counter >> 30, counter & 0x3FFFFFFF
    random = int.from_bytes(os.urandom(4), "big")
    return uuid.UUID(int=(ms << 80) | _VERSION | (high << 64) | _VARIANT | (low << 32) | random)


def floor_of(moment: dt.datetime) -> uuid.UUID:
    """Return the smallest id of a moment, whatever its version; `uuid_floor` in the database agrees."""
    return uuid.UUID(int=max(0, (moment - _EPOCH) // dt.timedelta(milliseconds=1)) << 80)


def moment_of(some_id: uuid.UUID) -> dt.datetime:
    """Return when an id was made; the largest one, which never was, gives the last moment there is."""
    milliseconds = min(some_id.int >> 80, _LAST_MS)
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)


def id_range(
    before: uuid.UUID | None, created_after: dt.datetime | None, created_before: dt.datetime | None
) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the first id of a page and the one behind its last: a range of time is a range of ids."""
    first = SMALLEST_ID if created_after is None else floor_of(created_after)
    end = LARGEST_ID if created_before is None else floor_of(created_before)
    return first, end if before is None else min(end, before)


def id_or_number(key: str) -> tuple[uuid.UUID | None, int | None]:
    """Read what a caller names a thing by; what can name nothing gives (None, None)."""
    if key.isascii() and key.isdigit():
        number = int(key[:20])
        return None, number if number <= _LARGEST_NUMBER else None
    try:
        return uuid.UUID(key), None
    except ValueError:
        return None, None
