"""The table `logs`."""

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
    limit: int,
) -> list[LogLine]:
    """Read log lines of a run after the seq `after`, in order."""
    rows = await db.fetch(SQL["page"], run_id, after, block_id, levels, attempt, limit)
    return [msgspec.convert(row, LogLine) for row in rows]
