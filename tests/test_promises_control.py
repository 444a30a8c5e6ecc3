"""G4, G5, G6 and G11 when people take a hand: resumed runs are killed, marked runs are written late, none is torn."""

import asyncio
import signal
import time
import uuid
from pathlib import Path

from schemas.entries import BlockEntry, ChangeEntry, RunEntry
from schemas.pipelines import Block, Definition, Graph
from schemas.queue import Ring
from schemas.runs import Claimed, RunError, Trigger
from schemas.states import BlockState, RunState
from schemas.store import control, leases, ledger, pipelines, runs
from schemas.store.db import Database
from tests.faults import Connection, assert_history_is_whole, blocks_of, diary_of, trigger
from tests.system import Penstock
from tests.waiting import eventually


async def executed(diary: Path, steps: int) -> None:
    await eventually(lambda: len(diary_of(diary)) >= steps, timeout=15)


def steps_of(diary: Path) -> list[int]:
    return [step for step, _ in diary_of(diary)]


async def test_a_resumed_run_outlives_kill_9_and_repeats_nothing_that_is_done(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, victim = await penstock.start()
    diary = tmp_path / "diary"
    old_id = await trigger(penstock, "steps", seconds=0.3, diary=str(diary))
    await executed(diary, 2)
    await penstock.client.post(f"/v1/runs/{old_id}/cancel")
    assert (await penstock.ended(old_id))["state"] == "cancelled"

    resumed = (await penstock.client.post(f"/v1/runs/{old_id}/resume")).json()
    await executed(diary, 4)  # the second step again, and the third
    await victim.end(signal.SIGKILL)
    await penstock.start_runner()

    run = await penstock.ended(resumed["id"])
    assert (run["state"], run["attempt"], run["resumed_from"]) == ("success", 2, old_id)
    assert steps_of(diary) in ([1, 2, 2, 3, 3, 4, 5], [1, 2, 2, 3, 4, 5])
    assert {block["state"] for block in run["block_runs"]} == {"success"}
    assert (await blocks_of(penstock, old_id))["one"] == run["block_runs"][0]
    await assert_history_is_whole(connection)


async def test_what_a_runner_writes_late_does_not_change_a_marked_run(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, sleeper = await penstock.start(lease_s=30)
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=0.3, diary=str(diary))
    await executed(diary, 2)

    sleeper.send(signal.SIGSTOP)  # its block host goes on: the answer waits for the sleeper to wake up
    marked = (await penstock.client.post(f"/v1/runs/{run_id}/mark", json={"state": "failed", "note": "wrong"})).json()
    await asyncio.sleep(0.5)
    sleeper.send(signal.SIGCONT)

    assert (await penstock.ended(await trigger(penstock, "steps", seconds=0.2)))["state"] == "success"
    assert await penstock.run(run_id) == marked
    assert (marked["state"], marked["error"]["message"]) == ("failed", "marked failed by preset: wrong")
    assert {name: block["state"] for name, block in (await blocks_of(penstock, run_id)).items()} == {
        "one": "success",
        "two": "cancelled",
        "three": "pending",
        "four": "pending",
        "five": "pending",
    }
    assert steps_of(diary) == [1, 2]
    assert await connection.fetchval("SELECT count(*) FROM runs WHERE state = 'running'") == 0
    await assert_history_is_whole(connection)


async def test_a_marked_run_lets_go_of_its_runner_at_once(penstock: Penstock, tmp_path: Path) -> None:
    await penstock.start(max_runs=1, heartbeat_s=15, lease_s=60)  # only the announcement can be in time
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=60, diary=str(diary))
    await executed(diary, 1)

    await penstock.client.post(f"/v1/runs/{run_id}/mark", json={"state": "success"})

    assert (await penstock.ended(await trigger(penstock, "quick"), timeout=10))["state"] == "success"


async def test_a_mark_and_the_owners_last_word_at_the_same_moment_leave_one_history(
    db: Database, connection: Connection
) -> None:
    for _ in range(40):
        run = await begun_run(db)

        before, was_applied = await asyncio.gather(mark(db, run.id), end(db, run))

        row = await connection.fetchrow("SELECT state, epoch, lease_owner FROM runs WHERE id = $1", run.id)
        assert row is not None
        assert (row["state"], row["lease_owner"]) == ("failed", None)
        assert before == ("success" if was_applied else "running")  # who comes second finds what the first has done
        blocks = await connection.fetchval("SELECT state FROM block_runs WHERE run_id = $1", run.id)
        assert blocks == ("success" if was_applied else "cancelled")
        seqs = await connection.fetch("SELECT seq FROM changes WHERE run_id = $1 ORDER BY seq", run.id)
        last = await connection.fetchval("SELECT seq FROM runs WHERE id = $1", run.id)
        assert [seq for (seq,) in seqs] == list(range(1, last + 1))


async def begun_run(db: Database) -> Claimed:
    """Claim a run, and write that its block executes."""
    graph = Graph((Block(id="b"),))
    await pipelines.publish(db, [Definition(id="p", path="p.py", version="v1", graph=graph)])
    run_id, runner_id = await runs.create(db, "p", Trigger()), uuid.uuid4()
    await leases.register(db, runner_id, name="test", lease_s=60)
    (run,) = await leases.claim(db, [Ring(run_id, 0)], runner_id=runner_id, versions={"p": "v1"})
    now = time.monotonic()
    await ledger.record(
        db,
        [RunEntry(run.id, run.epoch, run.seq + 1)],
        blocks=[BlockEntry(run.id, "b", BlockState.RUNNING, 1, began_at=now)],
        outputs=[],
        changes=[ChangeEntry(run.id, run.seq + 1, now, "block", BlockState.RUNNING, "b", 1)],
        logs=[],
        clock_ahead_s=0,
    )
    return run


async def end(db: Database, run: Claimed) -> bool:
    """Write what an owner writes last, and say whether it took effect."""
    now, seq = time.monotonic(), run.seq + 3
    applied = await ledger.record(
        db,
        [RunEntry(run.id, run.epoch, seq, RunState.SUCCESS)],
        blocks=[BlockEntry(run.id, "b", BlockState.SUCCESS, 1, ended_at=now)],
        outputs=[],
        changes=[
            ChangeEntry(run.id, seq - 1, now, "block", BlockState.SUCCESS, "b", 1),
            ChangeEntry(run.id, seq, now, "run", RunState.SUCCESS, None, 1),
        ],
        logs=[],
        clock_ahead_s=0,
    )
    return run.id in applied


async def mark(db: Database, run_id: uuid.UUID) -> RunState | None:
    async with db.transaction() as transaction:
        error = RunError(type="Marked", message="by hand")
        return await control.mark(transaction, run_id, RunState.FAILED, error=error, note=None)
