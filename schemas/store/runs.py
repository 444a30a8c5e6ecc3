"""The table `runs`, as callers of the API see it; what their owners write is in leases and ledger."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from schemas.errors import Conflict, NotFound
from schemas.ids import id_or_number, new_id
from schemas.runs import BlockRun, RunRow, Trigger
from schemas.states import RunState
from schemas.store.db import Db, queries

SQL = queries("runs")


async def create(db: Db, pipeline_id: str, trigger: Trigger) -> uuid.UUID:
    """Write a queued run; raises Conflict that names the run which already has this key."""
    variables = msgspec.json.encode(trigger.variables)
    run_id: uuid.UUID | None = await db.fetchval(
        SQL["create"],
        new_id(),
        pipeline_id,
        variables,
        trigger.logical_date,
        trigger.run_key,
        trigger.note,
        trigger.triggered_by,
        trigger.callback_url,
    )
    if run_id is None:
        existing = await db.fetchval(SQL["by_key"], pipeline_id, trigger.run_key)
        raise Conflict(
            f"Pipeline {pipeline_id} already has run {existing} with run_key {trigger.run_key!r}.", run_id=str(existing)
        )
    return run_id


async def get(db: Db, key: str, *, largest_body: int) -> RunRow:
    """Read a run by its id or its number; raises NotFound."""
    row = await db.fetchrow(SQL["get"], *id_or_number(key), largest_body)
    if row is None:
        raise NotFound(f"There is no run {key}.")
    return msgspec.convert(row, RunRow)


async def find_id(db: Db, key: str) -> uuid.UUID:
    """Resolve a run's id or number to its id; raises NotFound."""
    run_id: uuid.UUID | None = await db.fetchval(SQL["exists"], *id_or_number(key))
    if run_id is None:
        raise NotFound(f"There is no run {key}.")
    return run_id


async def list_page(
    db: Db,
    before: uuid.UUID | None,
    *,
    pipeline_id: str | None,
    schedule_id: uuid.UUID | None,
    event_id: uuid.UUID | None,
    backfill_id: uuid.UUID | None,
    state: str | None,
    created_after: dt.datetime | None,
    created_before: dt.datetime | None,
    limit: int,
    largest_body: int,
) -> list[RunRow]:
    """Read the newest runs before the cursor `before`."""
    rows = await db.fetch(
        SQL["page"],
        before,
        pipeline_id,
        schedule_id,
        event_id,
        state,
        created_after,
        created_before,
        limit,
        largest_body,
        backfill_id,
    )
    return [msgspec.convert(row, RunRow) for row in rows]


async def of_events(db: Db, event_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[tuple[uuid.UUID, int, RunState]]]:
    """Find (id, number, state) of the runs that each of these events caused."""
    found: dict[uuid.UUID, list[tuple[uuid.UUID, int, RunState]]] = defaultdict(list)
    for event_id, run_id, number, state in await db.fetch(SQL["of_events"], event_ids):
        found[event_id].append((run_id, number, RunState(state)))
    return found


async def cancel(db: Db, run_id: uuid.UUID) -> RunState | None:
    """Ask a run to end and return its state now; None when it has ended already."""
    state = await db.fetchval(SQL["cancel"], run_id)
    return None if state is None else RunState(state)


async def count_active(db: Db) -> dict[RunState, int]:
    """Count the runs that wait and those that execute."""
    row = await db.fetchrow(SQL["active"])
    return {RunState(state): count for state, count in row.items()} if row else {}


async def block_runs(db: Db, run_id: uuid.UUID) -> list[BlockRun]:
    """Read the blocks of a run that have begun, in no order."""
    return [msgspec.convert(row, BlockRun) for row in await db.fetch(SQL["block_runs"], run_id)]
