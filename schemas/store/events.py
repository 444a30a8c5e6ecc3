"""The table `events` and the keys that make a delivery unique."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.events import Delivery, Event, EventBody, EventFilter, Receipt
from schemas.ids import id_range
from schemas.pages import Found
from schemas.states import Verdict
from schemas.store.db import Db, queries

SQL = queries("events")
CANDIDATES = 5000
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
    first, end = id_range(before, which.created_after, which.created_before)
    path = _path(which)
    rows = await db.fetch(
        SQL["find"], path, first, end, CANDIDATES, limit, which.schedule_id, which.verdict, which.source
    )
    stopped_at = next((row["id"] for row in rows if row["is_last"]), None)
    found = [row["id"] for row in rows if row["is_match"]]
    events = await db.fetch(SQL["rows"], found) if found else []
    return Found([msgspec.convert(row, Event) for row in events], stopped_at)


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
