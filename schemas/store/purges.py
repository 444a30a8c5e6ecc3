"""The table `purges`: what would be deleted, what was, and the steps in which that is done.

Each step is one short transaction that moves one purge on and writes down how far it got, so a purge goes on where it
was when its runner is killed, and several runners take turns without a leader.
"""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from schemas.errors import NotFound
from schemas.ids import LARGEST_ID, floor_of, moment_of, new_id
from schemas.objects import day_prefix
from schemas.overviews import TableSize
from schemas.purges import OldPartition, Phase, Preview, Purge, PurgeState
from schemas.store.db import Database, Db, queries

log = structlog.get_logger()

SQL = queries("purges")
LARGEST_COUNT = 100_000
RUNS_AT_ONCE = 500
ROWS_AT_ONCE = 2000
FILES_AT_ONCE = 50


_ASKS = {  # of a partition of each table: whether a kept run needs it, and how many rows it has
    "events": (SQL["is_needed_by_events_of_runs"], SQL["count_events"]),
    "changes": (SQL["is_needed_by_runs"], SQL["count_changes"]),
    "logs": (SQL["is_needed_by_runs"], SQL["count_log_lines"]),
}


class _Plan(msgspec.Struct):
    rows: int = msgspec.field(name="Plan Rows")


class _Explained(msgspec.Struct):
    plan: _Plan = msgspec.field(name="Plan")


async def preview(db: Db, days: int, sizes: Sequence[TableSize]) -> Preview:
    """Count what a purge would delete now; `sizes` are those of the tables, for its share of their bytes."""
    older_than = await db.fetchval(SQL["now"]) - dt.timedelta(days=days)
    end = floor_of(older_than)
    counts = {
        "runs": await _about(db, SQL["few_runs"], SQL["many_runs"], end, older_than),
        "events": await _about(db, SQL["few_events"], SQL["many_events"], end),
        "changes": await _about(db, SQL["few_changes"], SQL["many_changes"], end),
        "logs": await _about(db, SQL["few_log_lines"], SQL["many_log_lines"], end),
        "block_outputs": await _about(db, SQL["few_outputs"], SQL["many_outputs"], end),
    }
    return Preview(
        days=days,
        older_than=older_than,
        runs=counts["runs"],
        events=counts["events"],
        changes=counts["changes"],
        log_lines=counts["logs"],
        outputs=counts["block_outputs"],
        bytes=sum(_share(size, counts[size.name]) for size in sizes if size.name in counts),
    )


async def create(db: Db, days: int, *, requested_by: str, automatic_on: dt.date | None = None) -> uuid.UUID | None:
    """Ask for a purge; None when the automatic one of that day is there already."""
    older_than = await db.fetchval(SQL["now"]) - dt.timedelta(days=days)
    about = await _about(db, SQL["few_runs"], SQL["many_runs"], floor_of(older_than), older_than)
    purge_id: uuid.UUID | None = await db.fetchval(SQL["create"], new_id(), days, requested_by, automatic_on, about)
    return purge_id


async def get(db: Db, purge_id: uuid.UUID) -> Purge:
    """Read one purge; raises NotFound."""
    row = await db.fetchrow(SQL["get"], purge_id)
    if row is None:
        raise NotFound(f"There is no purge {purge_id}.")
    return msgspec.convert(row, Purge)


async def list_page(db: Db, before: uuid.UUID | None, *, limit: int) -> list[Purge]:
    """Read the newest purges before the cursor `before`."""
    return [msgspec.convert(row, Purge) for row in await db.fetch(SQL["page"], before or LARGEST_ID, limit)]


async def step(db: Database) -> bool:
    """Move the oldest purge on by one bounded step; false when there is none, or another runner is at it."""
    async with db.transaction() as transaction:
        row = await transaction.fetchrow(SQL["take"])
        if row is None:
            return False
        purge = msgspec.convert(row, PurgeState)
        await _STEPS[purge.phase](transaction, purge)
    return True


async def drop_detached(db: Db) -> bool:
    """Drop one partition that was detached; false when there is none."""
    return await db.fetchval(SQL["drop_detached"]) is not None


async def delete_files(db: Db, delete: Callable[[str], Awaitable[None]]) -> bool:
    """Have the files of what was purged deleted, by prefix; what fails is tried again later. False when nothing is due.

    No transaction is open meanwhile: a store is slow, and watchers wait for the oldest transaction that writes.
    """
    prefixes = [row["prefix"] for row in await db.fetch(SQL["take_discarded"], FILES_AT_ONCE)]
    gone = [prefix for prefix in prefixes if await _succeeds(delete, prefix)]
    if gone:
        await db.execute(SQL["forget_discarded"], gone)
    return bool(prefixes)


async def _succeeds(delete: Callable[[str], Awaitable[None]], prefix: str) -> bool:
    try:
        await delete(prefix)
    except Exception:
        log.exception("purged files stay for now", prefix=prefix)
        return False
    return True


async def _delete_runs(db: Db, purge: PurgeState) -> None:
    await db.execute(SQL["delete_runs"], purge.id, purge.cursor_id, purge.older_than, RUNS_AT_ONCE)


async def _drop_a_partition(db: Db, purge: PurgeState) -> None:
    """Detach the oldest partition that holds nothing of a kept run; what others hold is deleted by row, later."""
    for row in await db.fetch(SQL["old_partitions"], purge.older_than):
        partition = msgspec.convert(row, OldPartition)
        is_needed, count = _ASKS[partition.parent]
        span = (partition.first_id, partition.end_id)
        if await db.fetchval(is_needed, *span):
            continue
        rows = partition.rows if partition.rows >= 0 else await db.fetchval(count, *span, LARGEST_COUNT)
        await db.execute(SQL["detach"], partition.parent, partition.name)
        if partition.parent == "events":  # also what no row names, since its gateway was killed before it could commit
            await db.execute(SQL["discard"], day_prefix(moment_of(partition.first_id).date()))
        counts = [rows if partition.parent == parent else 0 for parent in _ASKS]
        await db.execute(SQL["dropped"], purge.id, *counts)
        return
    await db.execute(SQL["next_phase"], purge.id, Phase.EVENTS)


async def _delete_events(db: Db, purge: PurgeState) -> None:
    await db.execute(SQL["delete_events"], purge.id, purge.cursor_id, purge.older_than, ROWS_AT_ONCE)


async def _delete_changes(db: Db, purge: PurgeState) -> None:
    await db.execute(SQL["delete_changes"], purge.id, purge.cursor_id, purge.older_than, ROWS_AT_ONCE, purge.cursor_seq)


async def _delete_log_lines(db: Db, purge: PurgeState) -> None:
    await db.execute(
        SQL["delete_log_lines"], purge.id, purge.cursor_id, purge.older_than, ROWS_AT_ONCE, purge.cursor_seq
    )


_STEPS = {
    Phase.RUNS: _delete_runs,
    Phase.PARTITIONS: _drop_a_partition,
    Phase.EVENTS: _delete_events,
    Phase.CHANGES: _delete_changes,
    Phase.LOGS: _delete_log_lines,
}


async def _about(db: Db, few: str, many: str, end: uuid.UUID, *more: dt.datetime) -> int:
    """Count rows as long as they are few, and take the planner's estimate when they are many."""
    count: int = await db.fetchval(few, end, *more, LARGEST_COUNT)
    if count < LARGEST_COUNT:
        return count
    plan = msgspec.json.decode(await db.fetchval(many, end, *more), type=tuple[_Explained])
    return max(count, plan[0].plan.rows)


def _share(size: TableSize, rows: int) -> int:
    return round(size.bytes * min(1.0, rows / max(size.rows, rows, 1)))
