"""The table `logs`."""

import datetime as dt
import uuid
from collections.abc import Sequence

import msgspec

from schemas.runs import LogLine
from schemas.states import LogLevel
from schemas.store.db import Db, queries

SQL = queries("logs")


async def list_page(
    db: Db,
    run_id: uuid.UUID,
    *,
    after: int,
    block_id: str | None,
    levels: Sequence[LogLevel] | None,
    attempt: int | None,
    map_index: int | None,
    created_after: dt.datetime | None,
    created_before: dt.datetime | None,
    limit: int,
) -> list[LogLine]:
    """Read log lines of a run after the seq `after`, in order."""
    times = created_after, created_before
    rows = await db.fetch(SQL["page"], run_id, after, block_id, levels, attempt, map_index, *times, limit)
    return [msgspec.convert(row, LogLine) for row in rows]
