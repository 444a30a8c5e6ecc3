"""The table `runs`, as callers of the API see it; what their owners write is in leases and ledger."""

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from schemas.errors import Conflict, NotFound
from schemas.ids import id_or_number, id_range, new_id
from schemas.pages import MOST_COUNTED, Counted, Found, Span, found_among
from schemas.runs import BlockRun, RunFilter, RunName, RunOrder, RunRow, Sorting, Trigger
from schemas.states import Origin, RunState
from schemas.store.db import Db, queries

SQL = queries("runs")
CANDIDATES = 5000
CANDIDATES_OF_A_TEXT = 1000  # each with a look into the bytes of its event
_SORTED_BY = {
    RunOrder.CREATED: "r.id",
    RunOrder.STARTED: "r.started_at",
    RunOrder.FINISHED: "r.finished_at",
    RunOrder.CHANGED: "greatest(r.created_at, r.started_at, r.finished_at, r.marked_at)",
    RunOrder.DURATION: "r.finished_at - r.started_at",
    RunOrder.LOGICAL_DATE: "r.logical_date",
    RunOrder.DATE: "coalesce(r.logical_date, r.created_at)",
    RunOrder.STATE: "r.state",
    RunOrder.PIPELINE: "r.pipeline_id",
    RunOrder.KEY: "r.run_key",
}
_OLDEST_FIRST = (Sorting(RunOrder.CREATED),)


async def create(db: Db, pipeline_id: str, trigger: Trigger, *, once_per_date: bool = False) -> uuid.UUID:
    """Write a queued run; raises Conflict that names the run which already has this key (`run_id`).

    With `once_per_date`, for which `db` is a transaction, also when one has its logical date (`same_date`).
    """
    once_per_date = once_per_date and trigger.logical_date is not None
    if once_per_date:
        await db.execute(SQL["lock_date"], pipeline_id, trigger.logical_date)
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
        once_per_date,
    )
    return run_id or await _refuse_another(db, pipeline_id, trigger)


async def _refuse_another(db: Db, pipeline_id: str, trigger: Trigger) -> NoReturn:
    existing = await db.fetchval(SQL["by_key"], pipeline_id, trigger.run_key)
    if existing is not None:
        raise Conflict(
            f"Pipeline {pipeline_id} already has run {existing} with run_key {trigger.run_key!r}.", run_id=str(existing)
        )
    existing = await db.fetchval(SQL["by_date"], pipeline_id, trigger.logical_date)
    raise Conflict(f"Pipeline {pipeline_id} already has run {existing} of this date.", same_date=str(existing))


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


async def newest_named(db: Db, pipeline_id: str, key: str) -> uuid.UUID:
    """Resolve a run's key, id or number to the newest of those that repeat it, or to itself; raises NotFound."""
    run_id: uuid.UUID | None = await db.fetchval(SQL["newest_named"], pipeline_id, key, *id_or_number(key))
    if run_id is None:
        raise NotFound(f"Pipeline {pipeline_id} has no run {key!r}.")
    return run_id


async def names(db: Db, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, RunName]:
    """Find what each of these runs is known by."""
    rows = await db.fetch(SQL["names"], run_ids) if run_ids else []
    return {row["id"]: msgspec.convert(row, RunName) for row in rows}


async def newest_of_pipelines(db: Db, pipeline_ids: Sequence[str]) -> dict[str, RunRow]:
    """Read the newest run of each of these pipelines that has any, without the body of its event."""
    newest = [row["id"] for row in await db.fetch(SQL["newest_of_pipelines"], pipeline_ids)]
    return {row.pipeline_id: row for row in await of_ids(db, newest, largest_body=0)}


async def states_of_dates(db: Db, pipeline_id: str, dates: Sequence[dt.datetime]) -> dict[dt.datetime, RunState]:
    """Read where the newest run of each of these logical dates stands, if there is one."""
    rows = await db.fetch(SQL["states_of_dates"], pipeline_id, dates)
    return {row["logical_date"]: RunState(row["state"]) for row in rows}


async def find(db: Db, before: uuid.UUID | None, which: RunFilter, *, limit: int) -> Found[uuid.UUID]:
    """Find the newest runs before the cursor `before` that match, looking at so many candidates and no more."""
    rows = await db.fetch(SQL["find"], *_asked(before, which, candidates=CANDIDATES, limit=limit))
    return found_among(rows, limit=limit)


async def find_span(
    db: Db, span: Span, which: RunFilter, *, oldest_first: bool = False, order: Sequence[Sorting] = ()
) -> Counted[uuid.UUID]:
    """Find a part of the newest MOST_COUNTED runs that match, and how many match; without an order the newest first."""
    asked = _asked(None, which, candidates=MOST_COUNTED, limit=MOST_COUNTED)
    sql = _span_sql(_OLDEST_FIRST if oldest_first else order, place=len(asked) + 1)
    row = await db.fetchrow(sql, *asked, span.offset + 1, span.offset + span.limit)
    return Counted((row and row["ids"]) or (), row["total"] if row else 0)


def _span_sql(order: Sequence[Sorting], *, place: int) -> str:
    terms = [f"{_SORTED_BY[one.by]} {'DESC' if one.is_descending else 'ASC'} NULLS LAST" for one in order]
    sorting = ", ".join([*terms, "r.id DESC"])
    return f"""
        SELECT count(*) AS total, (array_agg(r.id ORDER BY {sorting}))[${place}:${place + 1}] AS ids
        FROM ({SQL["find"]}) AS found
        JOIN runs r ON r.id = found.id
        WHERE is_match
    """  # noqa: S608 - all parts are ours


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
        which.pipeline_ids or None,
        which.pipeline_pattern,
        which.started_after,
        which.started_before,
        which.finished_after,
        which.finished_before,
        which.logical_date_after,
        which.logical_date_before,
        which.changed_after,
        which.changed_before,
        which.is_newest,
        which.origins or None,
        which.name_pattern,
        which.replay_id,
        which.dated_after,
        which.dated_before,
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
