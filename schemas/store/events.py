"""The table `events` and the keys that make a delivery unique."""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from schemas.errors import NotFound
from schemas.events import Delivery, Event, EventBody, EventFilter, ExplainedEvent, PlannedRun, Receipt
from schemas.ids import floor_of, id_range, moment_of
from schemas.pages import Found, found_among
from schemas.states import Verdict
from schemas.store.db import Db, queries

SQL = queries("events")
CANDIDATES = 5000
LONGEST_SPAN_DAYS = 128
KEPT_DUPLICATES = 20  # of one key, and as many with another body
_RUN = ("run_id", "pipeline_id", "variables", "queue")
_COLUMNS = tuple(name for name in Delivery.__struct_fields__ if name not in (*_RUN, "items"))


async def ingest(db: Db, deliveries: Sequence[Delivery]) -> list[Receipt]:
    """Write deliveries and the runs that they cause, and say for each what became of it, in order.

    Those that become one run at most share a commit; one that is split has its own, unless `db` is a transaction.
    """
    together = [delivery for delivery in deliveries if delivery.items is None]
    receipts = iter(await _ingest_together(db, together) if together else ())
    return [
        next(receipts) if delivery.items is None else await _ingest_items(db, delivery, delivery.items)
        for delivery in deliveries
    ]


async def _ingest_together(db: Db, deliveries: Sequence[Delivery]) -> list[Receipt]:
    columns = [[getattr(delivery, name) for delivery in deliveries] for name in (*_COLUMNS, *_RUN)]
    rows = await db.fetch(SQL["ingest"], *columns, KEPT_DUPLICATES)
    return [_receipt(delivery, *row) for delivery, row in zip(deliveries, rows, strict=True)]


def _receipt(delivery: Delivery, event_id: uuid.UUID, is_duplicate: bool, differs: bool, number: int | None) -> Receipt:
    numbers = {} if delivery.run_id is None or number is None else {delivery.run_id: number}
    return Receipt(event_id, is_duplicate, differs, numbers)


async def _ingest_items(db: Db, delivery: Delivery, items: Sequence[PlannedRun]) -> Receipt:
    columns = [getattr(delivery, name) for name in _COLUMNS]
    runs = [[getattr(item, name) for item in items] for name in PlannedRun.__struct_fields__]
    query = SQL["ingest_items"]
    [row] = await db.fetch(query, *columns, delivery.pipeline_id, delivery.queue, *runs, KEPT_DUPLICATES)
    event_id, is_duplicate, differs, run_ids, numbers = row
    return Receipt(event_id, is_duplicate, differs, dict(zip(run_ids or (), numbers or (), strict=True)))


async def get(db: Db, event_id: uuid.UUID) -> Event:
    """Read one event; raises NotFound."""
    row = await db.fetchrow(SQL["get"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, Event)


async def explained(db: Db, event_id: uuid.UUID) -> ExplainedEvent:
    """Read one event with all that judged it; raises NotFound."""
    row = await db.fetchrow(SQL["explained"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, ExplainedEvent)


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


async def sha256_of_first(db: Db, schedule_id: uuid.UUID, dedupe_key: str | None) -> bytes | None:
    """Read the hash of the delivery that came first with a key, if one did."""
    found: bytes | None = await db.fetchval(SQL["sha256_of_first"], schedule_id, dedupe_key)
    return found


async def names_object(db: Db, event_id: uuid.UUID) -> bool:
    """Tell whether an event was written, and names an object of the object store."""
    return bool(await db.fetchval(SQL["names_object"], event_id))


async def body(db: Db, event_id: uuid.UUID) -> EventBody:
    """Read the bytes of one event; raises NotFound."""
    row = await db.fetchrow(SQL["body"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, EventBody)
