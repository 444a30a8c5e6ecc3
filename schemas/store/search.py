"""Finding things by what people remember of them: each query looks at so many rows and no more."""

from collections.abc import Sequence

from schemas.ids import id_or_number
from schemas.store.db import Db, Record, queries

SQL = queries("search")
NOTES = 2000
SCHEDULES = 500
EVENTS = 2000


async def find_pipelines(db: Db, q: str, *, limit: int) -> list[Record]:
    """Find pipelines by name or description: (id, doc)."""
    return await db.fetch(SQL["pipelines"], q, limit)


async def find_schedules(db: Db, q: str, *, limit: int) -> list[Record]:
    """Find schedules by name or id: (id, number, name, pipeline_id)."""
    return await db.fetch(SQL["schedules"], q, id_or_number(q)[0], limit)


async def find_runs(db: Db, q: str, *, limit: int) -> list[Record]:
    """Find runs by id, number, run_key or note: (id, number, pipeline_id, state, run_key, note)."""
    return await db.fetch(SQL["runs"], q, *id_or_number(q), NOTES, limit)


async def find_events(db: Db, q: str, delivery_ids: Sequence[str], *, limit: int) -> list[Record]:
    """Find events by id, delivery id or type: (id, event_type, dedupe_key, source, verdict)."""
    return await db.fetch(SQL["events"], q, id_or_number(q)[0], delivery_ids, SCHEDULES, EVENTS, limit)
