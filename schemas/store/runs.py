"""The table `runs`, as callers of the API see it; what their owners write is in leases and ledger."""

import uuid
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from schemas.errors import Conflict, NotFound
from schemas.ids import id_or_number, id_range, new_id
from schemas.pages import MOST_COUNTED, Counted, Found, Span, found_among
from schemas.runs import BlockRun, RunFilter, RunRow, Trigger
from schemas.states import Origin, RunState
from schemas.store.db import Db, queries

SQL = queries("runs")
CANDIDATES = 5000
CANDIDATES_OF_A_TEXT = 1000  # each with a look into the bytes of its event
_SPAN = f"""
SELECT count(*) AS total, (array_agg(id ORDER BY CASE WHEN $16 THEN id END, id DESC))[$17:$18] AS ids
FROM ({SQL["find"]}) AS found
WHERE is_match
"""  # noqa: S608 - both parts are ours


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
    run_id, number = id_or_number(key)
    row = await db.fetchrow(SQL["rows"], [run_id], number, largest_body)
    if row is None:
        raise NotFound(f"There is no run {key}.")
    return msgspec.convert(row, RunRow)


async def find_id(db: Db, key: str) -> uuid.UUID:
    """Resolve a run's id or number to its id; raises NotFound."""
    run_id: uuid.UUID | None = await db.fetchval(SQL["exists"], *id_or_number(key))
    if run_id is None:
        raise NotFound(f"There is no run {key}.")
    return run_id


async def find_in_pipeline(db: Db, pipeline_id: str, key: str) -> uuid.UUID:
    """Resolve a run's key, id or number within its pipeline to its id; raises NotFound."""
    run_id: uuid.UUID | None = await db.fetchval(SQL["find_in_pipeline"], pipeline_id, key, *id_or_number(key))
    if run_id is None:
        raise NotFound(f"Pipeline {pipeline_id} has no run {key!r}.")
    return run_id


async def newest_of_pipelines(db: Db, pipeline_ids: Sequence[str]) -> dict[str, RunRow]:
    """Read the newest run of each of these pipelines that has any, without the body of its event."""
    newest = [row["id"] for row in await db.fetch(SQL["newest_of_pipelines"], pipeline_ids)]
    return {row.pipeline_id: row for row in await of_ids(db, newest, largest_body=0)}


async def find(db: Db, before: uuid.UUID | None, which: RunFilter, *, limit: int) -> Found[uuid.UUID]:
    """Find the newest runs before the cursor `before` that match, looking at so many candidates and no more."""
    rows = await db.fetch(SQL["find"], *_asked(before, which, candidates=CANDIDATES, limit=limit))
    return found_among(rows, limit=limit)


async def find_span(db: Db, span: Span, which: RunFilter, *, oldest_first: bool = False) -> Counted[uuid.UUID]:
    """Find a part of the newest MOST_COUNTED runs that match, and how many match."""
    asked = _asked(None, which, candidates=MOST_COUNTED, limit=MOST_COUNTED)
    row = await db.fetchrow(_SPAN, *asked, oldest_first, span.offset + 1, span.offset + span.limit)
    return Counted((row and row["ids"]) or (), row["total"] if row else 0)


def _asked(before: uuid.UUID | None, which: RunFilter, *, candidates: int, limit: int) -> tuple[object, ...]:
    first, end = id_range(before, which.created_after, which.created_before)
    return (
        _path(which),
        first,
        end,
        CANDIDATES_OF_A_TEXT if which.q else candidates,
        limit,
        which.pipeline_id,
        which.schedule_id,
        which.event_id,
        which.state,
        which.origin,
        which.parent_id,
        which.backfill_id,
        which.q,
        which.states or None,
        which.replay_id,
    )


async def of_ids(db: Db, run_ids: Sequence[uuid.UUID], *, largest_body: int) -> list[RunRow]:
    """Read runs, the newest first whatever the order of the ids."""
    rows = await db.fetch(SQL["rows"], run_ids, None, largest_body) if run_ids else []
    return [msgspec.convert(row, RunRow) for row in rows]


def _path(which: RunFilter) -> str:
    """Name the index whose candidates are fewest: what belongs to one thing, then what is rare, then what is new."""
    has_not_succeeded = which.state in (RunState.FAILED, RunState.CANCELLED)
    paths = (
        ("event", which.event_id is not None),
        ("parent", which.parent_id is not None),
        ("running", which.state is RunState.RUNNING),
        ("backfill", which.backfill_id is not None),
        ("replay", which.replay_id is not None),
        ("ended of pipeline", has_not_succeeded and which.pipeline_id is not None),
        ("schedule", which.schedule_id is not None),
        ("queued", which.state is RunState.QUEUED),
        ("ended", has_not_succeeded),
        ("pipeline", which.pipeline_id is not None),
        ("origin", which.origin not in (None, Origin.EVENT)),
    )
    return next((name for name, is_given in paths if is_given), "newest")


async def of_events(db: Db, event_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[tuple[uuid.UUID, int, RunState]]]:
    """Find (id, number, state) of the runs that each of these events caused."""
    found: dict[uuid.UUID, list[tuple[uuid.UUID, int, RunState]]] = defaultdict(list)
    for event_id, run_id, number, state in await db.fetch(SQL["of_events"], event_ids):
        found[event_id].append((run_id, number, RunState(state)))
    return found


async def cancel(db: Db, run_id: uuid.UUID) -> RunState | None:
    """Ask a run to end and return its state now; None when it has ended already."""
    return (await cancel_all(db, [run_id])).get(run_id)


async def cancel_all(db: Db, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunState]:
    """Ask runs to end and return the states now of those that had not."""
    return {row["id"]: RunState(row["state"]) for row in await db.fetch(SQL["cancel"], run_ids)}


async def count_active(db: Db) -> dict[RunState, int]:
    """Count the runs that wait and those that execute."""
    row = await db.fetchrow(SQL["active"])
    return {RunState(state): count for state, count in row.items()} if row else {}


async def block_runs(db: Db, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[BlockRun]]:
    """Read the blocks of these runs that have begun, in no order."""
    found: dict[uuid.UUID, list[BlockRun]] = defaultdict(list)
    for row in await db.fetch(SQL["block_runs"], run_ids):
        found[row["run_id"]].append(msgspec.convert(row, BlockRun))
    return found
