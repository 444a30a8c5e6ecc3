"""What the owner of a run writes: many runs in one commit, each fenced by its epoch."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.entries import BlockEntry, ChangeEntry, LogEntry, OutputEntry, RunEntry
from schemas.runs import BegunBlock
from schemas.store.db import Db, queries

SQL = queries("ledger")
_PARTS = (RunEntry, BlockEntry, OutputEntry, ChangeEntry, LogEntry)


async def record(
    db: Db,
    runs: Sequence[RunEntry],
    *,
    blocks: Sequence[BlockEntry],
    outputs: Sequence[OutputEntry],
    changes: Sequence[ChangeEntry],
    logs: Sequence[LogEntry],
    clock_ahead_s: float,
) -> set[uuid.UUID]:
    """Write everything in one statement and return the runs whose entries took effect; the others are lost to us.

    Each run comes once in `runs`: the other entries are fenced by the epoch that it has there.
    `clock_ahead_s` is how far the database's clock is ahead of the one on which the entries' moments were taken.
    """
    columns: list[list[object]] = []
    for part, entries in zip(_PARTS, (runs, blocks, outputs, changes, logs), strict=True):
        columns.extend([getattr(entry, name) for entry in entries] for name in part.__struct_fields__)
    return {row["run_id"] for row in await db.fetch(SQL["record"], *columns, clock_ahead_s) if row["applied"]}


async def begun_blocks(db: Db, run_id: uuid.UUID) -> list[BegunBlock]:
    """Read where an earlier owner of a run left its blocks."""
    return [msgspec.convert(row, BegunBlock) for row in await db.fetch(SQL["begun_blocks"], run_id)]
