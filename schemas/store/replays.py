"""The table `replays`, and the runs that replays make."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.errors import NotFound
from schemas.ids import id_or_number
from schemas.replays import OldRun, PlannedReplay, Replay, ReplayedRun, ReplayState, ReplayStep, Tally
from schemas.schedules import Gate
from schemas.store.db import Database, Db, queries

SQL = queries("replays")
_COUNTS = ("accepted", "filtered", "rejected", "handshake", "skipped", "runs")
_RUN = ("item", "variables", "event_item", "parent_id")


class RunsOfEvent(msgspec.Struct, frozen=True):
    """The runs that one event becomes again, and under which gate."""

    event_id: uuid.UUID
    gate: Gate
    runs: Sequence[ReplayedRun]


async def create(db: Db, planned: PlannedReplay) -> None:
    """Write a replay that has done nothing yet."""
    await db.execute(SQL["create"], *(getattr(planned, name) for name in PlannedReplay.__struct_fields__))


async def find_id(db: Db, key: str) -> uuid.UUID:
    """Resolve an id or number; raises NotFound."""
    replay_id: uuid.UUID | None = await db.fetchval(SQL["exists"], *id_or_number(key))
    if replay_id is None:
        raise NotFound(f"There is no replay {key}.")
    return replay_id


async def get(db: Db, key: str) -> Replay:
    """Read a replay by its id or its number; raises NotFound."""
    row = await db.fetchrow(SQL["get"], *id_or_number(key))
    if row is None:
        raise NotFound(f"There is no replay {key}.")
    return msgspec.convert(row, Replay)


async def list_page(db: Db, before: uuid.UUID | None, *, state: ReplayState | None, limit: int) -> list[Replay]:
    """Read the newest replays before the cursor `before`."""
    return [msgspec.convert(row, Replay) for row in await db.fetch(SQL["page"], before, state, limit)]


async def cancel(db: Db, replay_id: uuid.UUID) -> bool:
    """End a replay; False when it has ended already."""
    return await db.fetchval(SQL["cancel"], replay_id) is not None


async def take(db: Db, *, lease_s: float) -> ReplayStep | None:
    """Take up the replay whose next step is due, for so many seconds; None when none is."""
    row = await db.fetchrow(SQL["take"], lease_s)
    return None if row is None else msgspec.convert(row, ReplayStep)


async def next_due_s(db: Db) -> float | None:
    """Say in how many seconds the next step of any replay is due; None when none is under way."""
    seconds: float | None = await db.fetchval(SQL["next_due"])
    return seconds


async def advance(
    db: Db,
    replay_id: uuid.UUID,
    tally: Tally,
    *,
    since: uuid.UUID,
    until: uuid.UUID,
    pause_s: float,
    has_ended: bool,
) -> bool:
    """Move a replay on from `since`, in the transaction of its runs; False when it stands elsewhere or has ended."""
    counts = (getattr(tally, name) for name in _COUNTS)
    return await db.fetchval(SQL["advance"], replay_id, since, until, *counts, pause_s, has_ended) is not None


async def add_runs(db: Db, replay_id: uuid.UUID, made: Sequence[RunsOfEvent]) -> dict[uuid.UUID, int]:
    """Write the runs of some events and return the numbers of those that were not there yet, by their ids."""
    rows = [(one, run) for one in made for run in one.runs]
    if not rows:
        return {}
    found = await db.fetch(
        SQL["add_runs"],
        replay_id,
        [run.run_id for _, run in rows],
        [one.event_id for one, _ in rows],
        [one.gate.schedule_id for one, _ in rows],
        [one.gate.pipeline_id for one, _ in rows],
        [one.gate.queue for one, _ in rows],
        *([getattr(run, name) for _, run in rows] for name in _RUN),
    )
    return {row["id"]: row["number"] for row in found}


async def write_step(
    db: Database,
    step: ReplayStep,
    tally: Tally,
    made: Sequence[RunsOfEvent],
    *,
    until: uuid.UUID,
    pause_s: float,
    has_ended: bool,
) -> dict[uuid.UUID, int] | None:
    """Write one step whole, or nothing of it (None) when another gateway did or the replay was cancelled."""
    async with db.transaction() as transaction:
        is_ours = await advance(
            transaction, step.id, tally, since=step.cursor_id, until=until, pause_s=pause_s, has_ended=has_ended
        )
        return await add_runs(transaction, step.id, made) if is_ours else None


async def old_runs(db: Db, event_id: uuid.UUID) -> list[OldRun]:
    """Read the runs that an event caused when it came, in the order of their items."""
    return [msgspec.convert(row, OldRun) for row in await db.fetch(SQL["old_runs"], event_id)]
