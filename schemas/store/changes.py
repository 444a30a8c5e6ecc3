"""The tables `changes` and `logs`, read together: the history that watchers follow."""

import uuid
from collections.abc import Mapping, Sequence

import msgspec

from schemas.changes import Change, TailedChange
from schemas.runs import BlockAttempt
from schemas.store.db import Db, queries

SQL = queries("changes")


async def of_runs(db: Db, after: Mapping[uuid.UUID, int], *, limit: int) -> list[Change]:
    """Read what is new in these runs (id -> last seq known), at most `limit` changes of each, in order."""
    rows = await db.fetch(SQL["of_runs"], list(after), list(after.values()), limit)
    return [msgspec.convert(row, Change) for row in rows]


async def heads(db: Db, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, tuple[int, bool]]:
    """Read how far these runs are: id -> (seq, has_ended)."""
    return {row["id"]: (row["seq"], row["has_ended"]) for row in await db.fetch(SQL["heads"], run_ids)}


async def horizon(db: Db) -> str:
    """Read the transaction id below which nothing can appear any more."""
    xid: str = await db.fetchval(SQL["horizon"])
    return xid


async def tail(
    db: Db, after: tuple[str, uuid.UUID, int], *, horizon: str, with_logs: bool, limit: int
) -> list[TailedChange]:
    """Read what all runs did, and events, after the cursor (xid, id, seq) and below the horizon, in a total order."""
    xid, run_id, seq = after
    rows = await db.fetch(SQL["tail"], xid, run_id, seq, horizon, limit, with_logs)
    return [msgspec.convert(row, TailedChange) for row in rows]


async def attempts(
    db: Db, run_id: uuid.UUID, block_id: str, *, map_index: int | None, after: int, limit: int
) -> list[BlockAttempt]:
    """Read the attempts of one block run, of an item if `map_index` says which, that come after attempt `after`."""
    rows = await db.fetch(SQL["attempts"], run_id, block_id, map_index, after, limit)
    return [msgspec.convert(row, BlockAttempt) for row in rows]
