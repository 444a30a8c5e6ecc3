"""The table `events` and the keys that make a delivery unique."""

import datetime as dt
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from schemas.errors import NotFound
from schemas.events import (
    CausedRun,
    Delivery,
    Duplicate,
    Event,
    EventBody,
    EventFilter,
    ExplainedEvent,
    JudgedBy,
    Oldest,
    PlannedRun,
    Receipt,
    RunOfEvent,
)
from schemas.ids import SMALLEST_ID, floor_of, id_range, moment_of
from schemas.pages import MOST_COUNTED, Found, found_among
from schemas.states import Verdict
from schemas.store.db import Db, Record, queries

SQL = queries("events")
CANDIDATES = 5000
CANDIDATES_OF_A_TEXT = 1000  # each with a look into its bytes
COUNTED_CANDIDATES = 20_000
SCHEDULES_OF_A_KEY = 500
LARGEST_COUNT = 1000
LONGEST_SPAN_DAYS = 128
KEPT_DUPLICATES = 20  # of one key, and as many with another body
_FIND_OLDEST = SQL["find"].replace(" DESC", " ASC").replace("ORDER BY id ASC LIMIT $15", "ORDER BY id DESC LIMIT $15")
_RUN = ("run_id", "pipeline_id", "variables", "queue", "event_item")
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
    found = await of_ids(db, [event_id])
    if not found:
        raise NotFound(f"There is no event {event_id}.")
    return found[0]


async def explained(db: Db, event_id: uuid.UUID) -> ExplainedEvent:
    """Read one event with all that judged it; raises NotFound."""
    row = await db.fetchrow(SQL["explained"], event_id)
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return msgspec.convert(row, ExplainedEvent)


async def list_page(
    db: Db, before: uuid.UUID | None, which: EventFilter, *, keys: Sequence[str] = (), limit: int
) -> Found[Event]:
    """Find the newest events before the cursor `before` that match, looking at so many candidates and no more.

    `keys` are the ways in which the dedupe key of the filter may be spelled.
    """
    spans = _spans(*id_range(before, which.created_after, which.created_before))
    rows, _ = await _find(db, SQL["find"], which, keys, spans, limit=limit)
    found = found_among(rows, limit=limit)
    return Found(await of_ids(db, found.items), found.stopped_at)


async def of_ids(db: Db, event_ids: Sequence[uuid.UUID]) -> list[Event]:
    """Read events, the newest first whatever the order of the ids."""
    if not event_ids:
        return []
    rows = await db.fetch(SQL["rows"], event_ids, min(event_ids), max(event_ids))
    return [msgspec.convert(row, Event) for row in rows]


async def count(db: Db, which: EventFilter, *, keys: Sequence[str], end: uuid.UUID) -> tuple[dict[Verdict, int], bool]:
    """Count the events that match by their verdicts; the other result is False when there may be more."""
    spans = _spans(*id_range(end, which.created_after, which.created_before))
    factor = COUNTED_CANDIDATES // CANDIDATES
    rows, has_more = await _find(db, SQL["find"], which, keys, spans, limit=MOST_COUNTED, factor=factor)
    return dict(Counter(Verdict(row["verdict"]) for row in rows if row["is_match"])), not has_more


async def find_oldest(
    db: Db, which: EventFilter, *, keys: Sequence[str], after: uuid.UUID, end: uuid.UUID, limit: int
) -> Oldest:
    """Find the oldest events behind `after` and before `end` that match, looking at so many candidates and no more."""
    first, last = id_range(end, which.created_after, which.created_before)
    if (known := max(first, after)) == SMALLEST_ID:
        known = await db.fetchval(SQL["oldest"]) or end
    first = max(known, uuid.UUID(int=after.int + 1))
    rows, has_more = await _find(db, _FIND_OLDEST, which, keys, _spans_ahead(first, last), limit=limit)
    return Oldest([row["id"] for row in rows if row["is_match"]], rows[-1]["id"] if rows else after, has_more)


async def _find(
    db: Db,
    sql: str,
    which: EventFilter,
    keys: Sequence[str],
    spans: Iterable[tuple[uuid.UUID, uuid.UUID]],
    *,
    limit: int,
    factor: int = 1,
) -> tuple[list[Record], bool]:
    """Look in one span after the other until there is enough, and say whether more may follow."""
    found: list[Record] = []
    for first, end in spans:
        rows = await db.fetch(sql, *_asked(which, keys, first, end, limit=limit - len(found), factor=factor))
        found += rows
        if len(found) == limit or any(row["is_last"] for row in rows):
            return found, True
    return found, False


def _asked(
    which: EventFilter, keys: Sequence[str], first: uuid.UUID, end: uuid.UUID, *, limit: int, factor: int = 1
) -> tuple[object, ...]:
    return (
        _path(which),
        first,
        end,
        factor * (CANDIDATES_OF_A_TEXT if which.q else CANDIDATES),
        limit,
        which.schedule_id,
        which.verdict,
        which.source,
        which.reason_code,
        which.event_type,
        which.pipeline_id,
        which.q,
        keys,
        which.verdicts or None,
        SCHEDULES_OF_A_KEY,
    )


def _spans(first: uuid.UUID, end: uuid.UUID) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
    """Divide a range of ids into two days, then eight, and so on back: most pages need only the newest partitions."""
    days = 2
    while first < end:
        start = max(first, floor_of(min(moment_of(end), dt.datetime.now(dt.UTC)) - dt.timedelta(days=days)))
        if days > LONGEST_SPAN_DAYS:
            start = first
        yield start, end
        end, days = start, days * 4


def _spans_ahead(first: uuid.UUID, end: uuid.UUID) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
    """Divide a range of ids in the same way from its beginning."""
    days = 2
    while first < end:
        until = end if days > LONGEST_SPAN_DAYS else min(end, floor_of(moment_of(first) + dt.timedelta(days=days)))
        yield first, until
        first, days = until, days * 4


def _path(which: EventFilter) -> str:
    """Name the index whose candidates are fewest: what belongs to one thing, then what is rare, then what is new."""
    paths = (
        ("key", which.dedupe_key is not None),
        ("reason", which.reason_code is not None),
        ("schedule", which.schedule_id is not None),
        ("not accepted", which.verdict not in (None, Verdict.ACCEPTED)),
    )
    return next((name for name, is_given in paths if is_given), "newest")


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


async def runs_caused(db: Db, event_ids: Sequence[uuid.UUID], *, limit: int) -> dict[uuid.UUID, list[CausedRun]]:
    """Read the runs that these events caused when they came, so many of each, in the order of their items."""
    found: dict[uuid.UUID, list[CausedRun]] = defaultdict(list)
    for event_id, *run in await db.fetch(SQL["runs_caused"], event_ids, limit):
        found[event_id].append(CausedRun(*run))
    return found


async def count_replays(db: Db, event_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Count by how many replays these events became runs again; those without any are left out."""
    return {row["event_id"]: row["count"] for row in await db.fetch(SQL["count_replays"], event_ids, LARGEST_COUNT)}


async def runs_of(db: Db, event_id: uuid.UUID, *, limit: int) -> list[RunOfEvent]:
    """Read the runs of an event, whatever for, the oldest first."""
    return [msgspec.convert(row, RunOfEvent) for row in await db.fetch(SQL["runs_of"], event_id, limit)]


async def duplicates(db: Db, event_id: uuid.UUID) -> list[Duplicate]:
    """Read the sample that is kept of what came again."""
    rows = await db.fetch(SQL["duplicates"], event_id, 2 * KEPT_DUPLICATES)
    return [msgspec.convert(row, Duplicate) for row in rows]


async def rules(db: Db, rules_id: uuid.UUID) -> JudgedBy | None:
    """Read the rules under which an event was judged."""
    row = await db.fetchrow(SQL["rules"], rules_id)
    return None if row is None else msgspec.convert(row, JudgedBy)
