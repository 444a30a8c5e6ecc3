"""Who may write a run now: the table `runners`, and every step in which a run changes its owner."""

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence

import msgspec

from schemas.queue import Ring
from schemas.runs import Claimed
from schemas.store.db import Database, Db, queries

SQL = queries("leases")


class Beat(msgspec.Struct, frozen=True):
    """What a runner hears when it renews its lease: its own runs, those that shall be cancelled, and the time."""

    owned: frozenset[uuid.UUID]
    cancel: frozenset[uuid.UUID]
    now: dt.datetime


def alive_lock(runner_id: uuid.UUID) -> int:
    """Say which advisory lock a living runner holds; `uuid_lock` in the database agrees."""
    return runner_id.int & 0x7FFF_FFFF_FFFF_FFFF


async def register(db: Db, runner_id: uuid.UUID, *, name: str, lease_s: float) -> None:
    """Begin a runner's first lease."""
    await db.execute(SQL["register"], runner_id, name, lease_s)


async def beat(db: Db, runner_id: uuid.UUID, *, lease_s: float) -> Beat | None:
    """Renew a runner's lease and hear what it owns; None when the lease is lost for good."""
    row = await db.fetchrow(SQL["beat"], runner_id, lease_s)
    return None if row is None else Beat(frozenset(row["owned"]), frozenset(row["cancel"]), row["now"])


async def hold_alive_lock(db: Db, runner_id: uuid.UUID) -> None:
    """Take the lock that dies with the process; `db` must be a connection that nobody else uses."""
    await db.execute(SQL["hold_alive_lock"], alive_lock(runner_id))


async def claim(
    db: Database, rings: Sequence[Ring], *, runner_id: uuid.UUID, versions: Mapping[str, str]
) -> list[Claimed]:
    """Take those of the rung runs that may start now; `versions` maps the pipelines that this runner has to theirs.

    Runs under a limit of active runs are claimed one claimer at a time, so that the limit is never passed.
    """
    claimed = await _claim(db, rings, runner_id, versions, with_limits=False)
    taken = {run.id for run in claimed}
    rest = [ring for ring in rings if ring.run_id not in taken]
    return claimed + await _claim_limited(db, rest, runner_id, versions) if rest else claimed


async def _claim_limited(
    db: Database, rings: Sequence[Ring], runner_id: uuid.UUID, versions: Mapping[str, str]
) -> list[Claimed]:
    """Take those that fit under their limits, one claimer at a time."""
    rows = await db.fetch(SQL["limited"], [ring.run_id for ring in rings])
    limited = {row["id"]: row["pipeline_id"] for row in rows}
    if not limited:
        return []
    async with db.transaction() as transaction:
        await transaction.fetch(SQL["lock_limited"], list(limited.values()))
        fitting = {row["id"] for row in await transaction.fetch(SQL["within_limits"], list(limited))}
        chosen = [ring for ring in rings if ring.run_id in fitting]
        return await _claim(transaction, chosen, runner_id, versions, with_limits=True)


async def _claim(
    db: Db, rings: Sequence[Ring], runner_id: uuid.UUID, versions: Mapping[str, str], *, with_limits: bool
) -> list[Claimed]:
    rows = await db.fetch(
        SQL["claim"],
        [ring.run_id for ring in rings],
        [ring.dispatch for ring in rings],
        runner_id,
        list(versions),
        list(versions.values()),
        with_limits,
    )
    return [msgspec.convert(row, Claimed) for row in rows]


async def release(db: Db, runner_id: uuid.UUID, run_ids: Collection[uuid.UUID]) -> list[Ring]:
    """Hand runs that this runner owns back, end those that shall be cancelled, and return what to ring for them all."""
    return [Ring(*row) for row in await db.fetch(SQL["release"], runner_id, list(run_ids))]


async def unregister(db: Db, runner_id: uuid.UUID) -> None:
    """End a runner that owns nothing any more."""
    await db.execute(SQL["unregister"], runner_id)


async def find_dead_runners(db: Db, *, lease_s: float, silence_s: float) -> list[uuid.UUID]:
    """Find runners whose lease ran out, or whose process is gone and which were silent for `silence_s`."""
    return [row["id"] for row in await db.fetch(SQL["dead_runners"], lease_s, silence_s)]


async def reclaim(db: Db, runner_ids: Sequence[uuid.UUID]) -> tuple[list[Ring], list[uuid.UUID]]:
    """Take the runs of dead runners back; returns what to ring, and which runs ended here."""
    rings, ended = [], []
    for run_id, dispatch, state, lane in await db.fetch(SQL["reclaim"], runner_ids):
        if state == "queued":
            rings.append(Ring(run_id, dispatch, lane))
        else:
            ended.append(run_id)
    return rings, ended


async def bury(db: Db, runner_ids: Sequence[uuid.UUID]) -> None:
    """Forget dead runners that own nothing any more."""
    await db.execute(SQL["bury"], runner_ids)


async def find_due(db: Db, pipeline_ids: Sequence[str], *, older_than_s: float) -> list[Ring]:
    """Find queued runs of these pipelines that should have been taken by now."""
    return [Ring(*row) for row in await db.fetch(SQL["due"], pipeline_ids, older_than_s)]


async def ensure_partitions(db: Db, days_ahead: int) -> int:
    """Make the partitions of the coming days; returns how many were made."""
    made: int = await db.fetchval(SQL["ensure_partitions"], days_ahead)
    return made
