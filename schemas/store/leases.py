"""Who may write a run now: the table `runners`, and every step in which a run changes its owner."""

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from schemas.pipelines import DEFAULT_QUEUE
from schemas.queue import Ring
from schemas.runs import Claimed
from schemas.store.db import Database, Db, Record, queries

SQL = queries("leases")
MOST_DUE = 1000  # of one pipeline, in one look


class Beat(msgspec.Struct, frozen=True):
    """What a runner hears when it renews its lease: its own runs, those that shall be cancelled, and the time."""

    owned: frozenset[uuid.UUID]
    cancel: frozenset[uuid.UUID]
    now: dt.datetime


def alive_lock(runner_id: uuid.UUID) -> int:
    """Say which advisory lock a living runner holds; `uuid_lock` in the database agrees."""
    return runner_id.int & 0x7FFF_FFFF_FFFF_FFFF


async def register(
    db: Db, runner_id: uuid.UUID, *, name: str, lease_s: float, queues: Collection[str] = (DEFAULT_QUEUE,)
) -> None:
    """Begin a runner's first lease, and say which queues it serves."""
    await db.execute(SQL["register"], runner_id, name, lease_s, list(queues))


async def beat(db: Db, runner_id: uuid.UUID, *, lease_s: float) -> Beat | None:
    """Renew a runner's lease and hear what it owns; None when the lease is lost for good."""
    row = await db.fetchrow(SQL["beat"], runner_id, lease_s)
    return None if row is None else Beat(frozenset(row["owned"]), frozenset(row["cancel"]), row["now"])


async def hold_alive_lock(db: Db, runner_id: uuid.UUID) -> None:
    """Take the lock that dies with the process; `db` must be a connection that nobody else uses."""
    await db.execute(SQL["hold_alive_lock"], alive_lock(runner_id))


class Claimer(msgspec.Struct, frozen=True, kw_only=True):
    """Who claims: a runner, the pipelines that it has with their versions, and the queues that it serves."""

    runner_id: uuid.UUID
    versions: Mapping[str, str]
    queues: Collection[str] = (DEFAULT_QUEUE,)


async def claim(
    db: Database,
    rings: Sequence[Ring],
    *,
    runner_id: uuid.UUID,
    versions: Mapping[str, str],
    queues: Collection[str] = (DEFAULT_QUEUE,),
) -> list[Claimed]:
    """Take the rung runs that may start now; `versions` maps the pipelines that this runner has to theirs.

    Under a limit of active runs a ring only says where to look: for each one the next run in order is taken, whichever
    was rung, one claimer at a time, so that no limit is passed. Ringing a run that has ended means: look there again.
    """
    claimer = Claimer(runner_id=runner_id, versions=versions, queues=queues)
    claimed = await _claim(db, rings, claimer, with_limits=False)
    taken = {run.id for run in claimed}
    rest = [ring.run_id for ring in rings if ring.run_id not in taken]
    return claimed + await _claim_limited(db, rest, claimer) if rest else claimed


async def _claim_limited(db: Database, run_ids: Sequence[uuid.UUID], claimer: Claimer) -> list[Claimed]:
    """Take as many runs as were rung under a limit, as far as there is room."""
    limited = {row["id"]: row["pipeline_id"] for row in await db.fetch(SQL["limited"], run_ids)}
    looks = Counter(limited[run_id] for run_id in run_ids if limited.get(run_id) in claimer.versions)
    if not looks:
        return []
    async with db.transaction() as transaction:
        await transaction.fetch(SQL["lock_limited"], list(looks))
        first = await _find_next(transaction, looks, claimer.queues, older_than_s=0, only_limited=True)
        if not first:
            return []
        lanes = {row["pipeline_id"]: row["lane"] for row in first}
        await transaction.execute(SQL["remember_turns"], list(lanes), list(lanes.values()))
        return await _claim(transaction, [_ring(row) for row in first], claimer, with_limits=True)


async def _claim(db: Db, rings: Sequence[Ring], claimer: Claimer, *, with_limits: bool) -> list[Claimed]:
    rows = await db.fetch(
        SQL["claim"],
        [ring.run_id for ring in rings],
        [ring.dispatch for ring in rings],
        claimer.runner_id,
        list(claimer.versions),
        list(claimer.versions.values()),
        with_limits,
        list(claimer.queues),
    )
    return [msgspec.convert(row, Claimed) for row in rows]


async def _find_next(
    db: Db, most: Mapping[str, int], queues: Collection[str], *, older_than_s: float, only_limited: bool
) -> list[Record]:
    return await db.fetch(SQL["next"], list(most), list(most.values()), list(queues), float(older_than_s), only_limited)


def _ring(row: Record) -> Ring:
    return Ring(row["id"], row["dispatch"], row["lane"], row["queue"])


async def release(db: Db, runner_id: uuid.UUID, run_ids: Collection[uuid.UUID]) -> list[Ring]:
    """Hand runs that this runner owns back, end those that shall be cancelled, and return what to ring for them all."""
    return [_ring(row) for row in await db.fetch(SQL["release"], runner_id, list(run_ids))]


async def hand_over(db: Db, run_id: uuid.UUID, epoch: int, *, queue: str) -> list[Ring]:
    """Hand a run to the runners of another queue, if this epoch is still its own, and return what to ring for it."""
    return [_ring(row) for row in await db.fetch(SQL["hand_over"], run_id, epoch, queue)]


async def unregister(db: Db, runner_id: uuid.UUID) -> None:
    """End a runner that owns nothing any more."""
    await db.execute(SQL["unregister"], runner_id)


async def find_dead_runners(db: Db, *, lease_s: float, silence_s: float) -> list[uuid.UUID]:
    """Find runners whose lease ran out, or whose process is gone and which were silent for `silence_s`."""
    return [row["id"] for row in await db.fetch(SQL["dead_runners"], lease_s, silence_s)]


async def reclaim(db: Db, runner_ids: Sequence[uuid.UUID]) -> tuple[list[Ring], list[uuid.UUID]]:
    """Take the runs of dead runners back; returns what to ring, and which runs ended here."""
    rings, ended = [], []
    for row in await db.fetch(SQL["reclaim"], runner_ids):
        if row["state"] == "queued":
            rings.append(_ring(row))
        else:
            ended.append(row["id"])
    return rings, ended


async def bury(db: Db, runner_ids: Sequence[uuid.UUID]) -> None:
    """Forget dead runners that own nothing any more."""
    await db.execute(SQL["bury"], runner_ids)


async def find_due(
    db: Db, pipeline_ids: Collection[str], *, older_than_s: float, queues: Collection[str] = (DEFAULT_QUEUE,)
) -> list[Ring]:
    """Find queued runs of these pipelines and queues that could have been taken by now."""
    most = dict.fromkeys(pipeline_ids, MOST_DUE)
    return [_ring(row) for row in await _find_next(db, most, queues, older_than_s=older_than_s, only_limited=False)]


async def find_unserved_queues(db: Db) -> list[str]:
    """Find the queues in which something waits or will, and that no living runner serves."""
    return [row["queue"] for row in await db.fetch(SQL["unserved_queues"])]


async def ensure_partitions(db: Db, days_ahead: int) -> int:
    """Make the partitions of the coming days; returns how many were made."""
    made: int = await db.fetchval(SQL["ensure_partitions"], days_ahead)
    return made
