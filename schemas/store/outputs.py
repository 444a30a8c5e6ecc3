"""The table `block_outputs`, as readers of the API see it; runners write it with the ledger."""

import uuid

import msgspec

from schemas.outputs import StoredOutput
from schemas.store.db import Db, queries

SQL = queries("outputs")


async def get(db: Db, run_id: uuid.UUID, block_id: str, map_index: int) -> StoredOutput | None:
    """Read a block's output and state; None when the block has not begun."""
    row = await db.fetchrow(SQL["get"], run_id, block_id, map_index)
    return None if row is None else msgspec.convert(row, StoredOutput)


async def keep_profile(
    db: Db, run_id: uuid.UUID, block_id: str, map_index: int, *, profile: bytes, of: StoredOutput
) -> None:
    """Keep a profile beside the output that it was computed of."""
    await db.execute(SQL["keep_profile"], run_id, block_id, map_index, profile, of.size, of.object)


async def previous(db: Db, pipeline_id: str, run_id: uuid.UUID, block_id: str, map_index: int) -> uuid.UUID | None:
    """Find the last run before this one that succeeded and has an output of this block."""
    found: uuid.UUID | None = await db.fetchval(SQL["previous"], pipeline_id, run_id, block_id, map_index)
    return found
