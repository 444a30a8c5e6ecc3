"""The table `runs`, as people overrule it: going on with a run that ended, repeating it, saying what became of it."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.errors import Conflict
from schemas.ids import new_id
from schemas.queue import Ring
from schemas.runs import RunError
from schemas.states import RunState
from schemas.store.db import Db, queries

SQL = queries("control")


async def resume(db: Db, run_id: uuid.UUID, *, note: str | None, from_block: str | None = None) -> Ring | None:
    """Queue a run that goes on where this one ended and return its ring; None unless it failed or was cancelled.

    With `from_block` that begins anew, with all after it, and it may have succeeded.

    Raises Conflict, which names it, when such a run waits or executes already.
    """
    row = await db.fetchrow(SQL["resume"], run_id, new_id(), note, from_block)
    if row is not None:
        return Ring(*row)
    active = await db.fetchval(SQL["active_resume"], run_id)
    if active is not None:
        raise Conflict(f"Run {active} resumes run {run_id} already, and has not ended.", run_id=str(active))
    return None


async def rerun(db: Db, run_id: uuid.UUID, *, variables: dict[str, Any], note: str | None) -> Ring | None:
    """Queue a run that repeats this one with these variables and return its ring; None unless it has ended."""
    row = await db.fetchrow(SQL["rerun"], run_id, new_id(), msgspec.json.encode(variables), note)
    return None if row is None else Ring(*row)


async def mark(
    transaction: Db, run_id: uuid.UUID, state: RunState, *, error: RunError | None, note: str | None
) -> RunState | None:
    """Say what became of a run, whatever it was, and return its state before; None when it was in this state already.

    A failed run needs an `error`. Two statements: what its owner has committed is only seen behind the lock.
    """
    row = await transaction.fetchrow(SQL["lock"], run_id)
    why = None if error is None else msgspec.json.encode(error)
    if row is None or await transaction.fetchval(SQL["mark"], run_id, state, why, note) is None:
        return None
    return RunState(row["state"])


async def annotate(db: Db, run_id: uuid.UUID, note: str | None) -> bool:
    """Write another note on a run, or none; False when the run is gone."""
    return await db.fetchval(SQL["annotate"], run_id, note) is not None


async def lock_repetitions(transaction: Db, first_id: uuid.UUID) -> dict[uuid.UUID, RunState]:
    """Find a run and all that repeat it, which nobody else changes until the transaction ends."""
    return {row["id"]: RunState(row["state"]) for row in await transaction.fetch(SQL["lock_repetitions"], first_id)}


async def delete(transaction: Db, run_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Delete those of these runs that have ended, and return which they were."""
    return [row["id"] for row in await transaction.fetch(SQL["delete"], run_ids)]
