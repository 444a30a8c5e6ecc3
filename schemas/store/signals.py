"""The table `signals`: what blocks ask outside systems, and the answers that these give."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.ids import new_id
from schemas.signals import Signal
from schemas.store.db import Db, queries

SQL = queries("signals")


async def get(db: Db, run_id: uuid.UUID, block_id: str, map_index: int) -> Signal | None:
    """Read what a block waits for, if it has asked."""
    row = await db.fetchrow(SQL["get"], run_id, block_id, map_index)
    return None if row is None else msgspec.convert(row, Signal)


async def ask(db: Db, run_id: uuid.UUID, block_id: str, map_index: int, *, number: int, digest: bytes) -> Signal | None:
    """Begin round `number`; None when somebody else has begun it already."""
    row = await db.fetchrow(SQL["ask"], new_id(), run_id, block_id, map_index, number, digest)
    return None if row is None else msgspec.convert(row, Signal)


async def sent(db: Db, signal: Signal) -> None:
    """Note that the outside system took the request."""
    await db.execute(SQL["sent"], signal.id, signal.round)


async def receive(db: Db, digest: bytes, run_id: uuid.UUID, payload: bytes) -> bool | None:
    """Store an answer; false when there is one already, None when nobody waits with this token."""
    first: bool | None = await db.fetchval(SQL["receive"], digest, run_id, payload)
    return first


async def answers(db: Db, signal_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, msgspec.Raw]:
    """Find the answers that have come."""
    return {row["id"]: row["payload"] for row in await db.fetch(SQL["answers"], signal_ids)}
