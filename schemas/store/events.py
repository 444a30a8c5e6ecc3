"""The table `events` and the keys that make a delivery unique."""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from schemas.errors import NotFound
from schemas.events import Delivery, Event, EventBody, EventFilter, Receipt
from schemas.ids import floor_of, id_range, moment_of
from schemas.pages import Found, found_among
from schemas.states import Verdict
from schemas.store.db import Db, queries

SQL = queries("events")
CANDIDATES = 5000
LONGEST_SPAN_DAYS = 128
_COLUMNS = Delivery.__struct_fields__


async def ingest(db: Db, deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Write deliveries and the runs that they cause in one statement, and say for each what became of it, in order."""
    columns = [[getattr(delivery, name) for delivery in deliveries] for name in _COLUMNS]
    return [Receipt(*row) for row in await db.fetch(SQL["ingest"], *columns)]


async def get(db: Db, event_id: uuid.UUID) -> Event:
    """Read one event; raises NotFound."""
    row = await db.fetchrow(SQL["get"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, Event)


async def list_page(db: Db, before: uuid.UUID | None, which: EventFilter, *, limit: int) -> Found[Event]:
    """Find the newest events before the cursor `before` that match, looking at so many candidates and no more."""
    found: list[uuid.UUID] = []
    stopped_at = None
    for first, end in _spans(*id_range(before, which.created_after, which.created_before)):
        wanted = limit - len(found)
        rows = await db.fetch(
            SQL["find"], _path(which), first, end, CANDIDATES, wanted, which.schedule_id, which.verdict, which.source
        )
        part = found_among(rows, limit=wanted)
        found += part.items
        stopped_at = found[-2] if len(found) == limit > 1 else part.stopped_at
        if stopped_at is not None:
            break
    events = await db.fetch(SQL["rows"], found, found[-1], found[0]) if found else []
    return Found([msgspec.convert(row, Event) for row in events], stopped_at)


def _spans(first: uuid.UUID, end: uuid.UUID) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
    """Divide a range of ids into two days, then eight, and so on back: most pages need only the newest partitions."""
    days = 2
    while first < end:
        start = max(first, floor_of(min(moment_of(end), dt.datetime.now(dt.UTC)) - dt.timedelta(days=days)))
        if days > LONGEST_SPAN_DAYS:
            start = first
        yield start, end
        end, days = start, days * 4


def _path(which: EventFilter) -> str:
    if which.schedule_id is not None:
        return "schedule"
    return "newest" if which.verdict in (None, Verdict.ACCEPTED) else "not accepted"


async def body(db: Db, event_id: uuid.UUID) -> EventBody:
    """Read the bytes of one event; raises NotFound."""
    row = await db.fetchrow(SQL["body"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, EventBody)
