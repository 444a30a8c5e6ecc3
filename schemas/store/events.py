"""The table `events` and the keys that make a delivery unique."""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.events import Delivery, Event, EventBody, Receipt
from schemas.store.db import Db, queries

SQL = queries("events")
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


async def list_page(
    db: Db,
    before: uuid.UUID | None,
    *,
    schedule_id: uuid.UUID | None,
    verdict: str | None,
    source: str | None,
    created_after: dt.datetime | None,
    created_before: dt.datetime | None,
    limit: int,
) -> list[Event]:
    """Read the newest events before the cursor `before`."""
    rows = await db.fetch(SQL["page"], before, schedule_id, verdict, source, created_after, created_before, limit)
    return [msgspec.convert(row, Event) for row in rows]


async def body(db: Db, event_id: uuid.UUID) -> EventBody:
    """Read the bytes of one event; raises NotFound."""
    row = await db.fetchrow(SQL["body"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, EventBody)
