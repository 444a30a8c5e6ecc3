"""G4 and G5 in the tables themselves: one owner at a time, one terminal state, and a late write changes nothing."""

import asyncio
import time
import uuid

import asyncpg
import pytest

from schemas.entries import BlockEntry, ChangeEntry, LogEntry, OutputEntry, RunEntry
from schemas.outputs import UNMAPPED, Format
from schemas.pipelines import Block, Definition, Graph
from schemas.queue import Ring
from schemas.runs import Claimed, Trigger
from schemas.states import BlockState, LogLevel, RunState
from schemas.store import leases, ledger, pipelines, runs
from schemas.store.db import Database
from tests.faults import Connection, assert_history_is_whole

PIPELINE = Definition(
    id="p",
    path="p.py",
    version="v1",
    graph=Graph((Block(id="b", upstream=(), retries=0, retry_delay=0, timeout=None),)),
)
LEASE_S = 60


async def queued(db: Database) -> Ring:
    await pipelines.publish(db, [PIPELINE])
    return Ring(await runs.create(db, PIPELINE.id, Trigger()), 0)


async def claimed_by_a_new_runner(db: Database, ring: Ring) -> tuple[uuid.UUID, list[Claimed]]:
    runner_id = uuid.uuid4()
    await leases.register(db, runner_id, name="test", lease_s=LEASE_S)
    return runner_id, await leases.claim(db, [ring], runner_id=runner_id, versions={"p": "v1"})


async def finish(db: Database, run: Claimed, state: RunState = RunState.SUCCESS, *, output: bytes = b"\x01") -> bool:
    """Write all that an owner writes at the end of a run, and say whether it took effect."""
    now, seq, error = time.monotonic(), run.seq, b'{"type":"T","message":"m"}' if state is RunState.FAILED else None
    applied = await ledger.record(
        db,
        [RunEntry(run.id, run.epoch, seq + 3, state, error)],
        blocks=[BlockEntry(run.id, "b", BlockState.SUCCESS, run.attempt, began_at=now, ended_at=now)],
        outputs=[OutputEntry(run.id, "b", UNMAPPED, Format.MSGPACK, output, None, len(output))],
        changes=[
            ChangeEntry(run.id, seq + 2, now, "block", BlockState.SUCCESS, "b", run.attempt),
            ChangeEntry(run.id, seq + 3, now, "run", state, None, run.attempt, error=error),
        ],
        logs=[LogEntry(run.id, seq + 1, now, "b", run.attempt, LogLevel.INFO, "late", b"{}")],
        clock_ahead_s=0,
    )
    return run.id in applied


async def test_a_run_has_one_owner_however_many_want_it(db: Database, connection: Connection) -> None:
    ring = await queued(db)

    found = await asyncio.gather(*(claimed_by_a_new_runner(db, ring) for _ in range(20)))

    assert sum(len(claimed) for _, claimed in found) == 1
    assert await connection.fetchval("SELECT epoch FROM runs") == 1


async def test_a_late_write_of_a_former_owner_leaves_no_trace(db: Database, connection: Connection) -> None:
    zombie_id, [zombie] = await claimed_by_a_new_runner(db, await queued(db))
    [ring], _ = await leases.reclaim(db, [zombie_id])
    assert not await finish(db, zombie)  # while nobody owns it
    _, [heir] = await claimed_by_a_new_runner(db, ring)

    assert not await finish(db, zombie, output=b"late")  # while somebody else does
    for table in ("block_runs", "block_outputs", "logs"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await finish(db, heir)
    assert not await finish(db, zombie, RunState.FAILED, output=b"late")  # when it has ended

    assert await connection.fetchval("SELECT state FROM runs") == "success"
    assert await connection.fetchval("SELECT data FROM block_outputs") == b"\x01"
    await assert_history_is_whole(connection)


async def test_a_second_try_of_a_write_whose_answer_was_lost_counts_once(db: Database, connection: Connection) -> None:
    _, [run] = await claimed_by_a_new_runner(db, await queued(db))

    assert [await finish(db, run) for _ in range(3)] == [True, True, True]

    assert await connection.fetchval("SELECT count(*) FROM changes WHERE state = 'success' AND kind = 'run'") == 1
    await assert_history_is_whole(connection)


async def test_a_run_that_ends_without_its_owner_leaves_no_block_open(db: Database, connection: Connection) -> None:
    runner_id, [run] = await claimed_by_a_new_runner(db, await queued(db))
    await ledger.record(
        db,
        [RunEntry(run.id, run.epoch, run.seq + 1)],
        blocks=[BlockEntry(run.id, "b", BlockState.RUNNING, 1, began_at=time.monotonic())],
        outputs=[],
        changes=[ChangeEntry(run.id, run.seq + 1, time.monotonic(), "block", BlockState.RUNNING, "b", 1)],
        logs=[],
        clock_ahead_s=0,
    )
    await runs.cancel(db, run.id)

    _, ended = await leases.reclaim(db, [runner_id])

    assert ended == [run.id]
    [block] = (await runs.block_runs(db, [run.id]))[run.id]
    assert (block.state, block.finished_at is not None) == (BlockState.CANCELLED, True)


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
async def test_a_terminal_state_is_final(db: Database, connection: Connection, state: str) -> None:
    _, [run] = await claimed_by_a_new_runner(db, await queued(db))
    await finish(db, run)

    with pytest.raises(asyncpg.PostgresError, match="is success and stays it") as refused:
        await connection.execute("UPDATE runs SET state = $1", state)

    assert refused.value.sqlstate == "PS001"


async def test_an_epoch_never_goes_back(db: Database, connection: Connection) -> None:
    await claimed_by_a_new_runner(db, await queued(db))

    with pytest.raises(asyncpg.PostgresError, match="went back from 1 to 0") as refused:
        await connection.execute("UPDATE runs SET epoch = 0")

    assert refused.value.sqlstate == "PS002"


async def test_cancel_and_success_at_the_same_moment_have_one_winner(db: Database, connection: Connection) -> None:
    for _ in range(60):
        _, [run] = await claimed_by_a_new_runner(db, await queued(db))

        seen_by_caller, was_applied = await asyncio.gather(runs.cancel(db, run.id), finish(db, run))

        assert was_applied  # whoever came first: to cancel a running run is only to ask its owner
        assert seen_by_caller in (None, RunState.RUNNING)
    assert await connection.fetchval("SELECT count(*) FROM runs WHERE state = 'success'") == 60
    await assert_history_is_whole(connection)


async def test_cancel_and_claim_at_the_same_moment_have_one_winner(db: Database, connection: Connection) -> None:
    for _ in range(60):
        ring = await queued(db)

        seen_by_caller, (_, claimed) = await asyncio.gather(
            runs.cancel(db, ring.run_id), claimed_by_a_new_runner(db, ring)
        )

        state = await connection.fetchval("SELECT state FROM runs WHERE id = $1", ring.run_id)
        assert (state, seen_by_caller) == (("running", RunState.RUNNING) if claimed else ("cancelled", "cancelled"))
