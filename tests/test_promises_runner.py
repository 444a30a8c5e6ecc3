"""G4, G5, G6 and G10: runners are killed, paused, stopped and forgotten, and each run still ends once."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.faults import (
    Connection,
    Crowd,
    all_ended,
    assert_history_is_whole,
    assert_nothing_was_lost,
    blocks_of,
    diary_of,
    trigger,
)
from tests.system import Penstock
from tests.waiting import eventually

LEASE_S = 2


async def executed(diary: Path, steps: int) -> None:
    """Wait until so many steps were begun."""
    await eventually(lambda: len(diary_of(diary)) >= steps, timeout=15)


async def test_another_runner_resumes_a_run_from_its_last_finished_block(
    penstock: Penstock, connection: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, victim = await penstock.start()
    diary = tmp_path / "diary"

    async def heard_from_all() -> bool:
        """After a start of Postgres every runner gets a whole lease (6 s) to be heard of."""
        return await connection.fetchval("SELECT now() > pg_postmaster_start_time() + interval '6.5 s'")

    await eventually(heard_from_all, timeout=15)
    run_id = await trigger(penstock, "steps", seconds=0.8, diary=str(diary))
    await asyncio.gather(executed(diary, 3), penstock.start_runner())

    await victim.end(signal.SIGKILL)
    begun, before = time.monotonic(), len(diary_of(diary))
    await executed(diary, before + 1)
    resumed_after = time.monotonic() - begun
    with capsys.disabled():
        print(f" resumed {resumed_after:.2f} s after kill -9 ")  # noqa: T201 - a figure of the project

    assert resumed_after < 5
    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    steps = [step for step, _ in diary_of(diary)]
    interrupted = steps[before - 1]
    assert steps == [1, 2, 3, 4, 5][:interrupted] + [1, 2, 3, 4, 5][interrupted - 1 :]
    assert {block["state"] for block in run["block_runs"]} == {"success"}
    await assert_history_is_whole(connection)


async def test_the_only_runner_resumes_when_it_is_started_again(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, victim = await penstock.start()
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=0.2, diary=str(diary))
    await executed(diary, 3)

    await victim.end(signal.SIGKILL)
    before = len(diary_of(diary))
    await penstock.start_runner()

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    steps = [step for step, _ in diary_of(diary)]
    assert (steps[:before], steps[before:]) == ([1, 2, 3, 4, 5][:before], [1, 2, 3, 4, 5][before - 1 :])
    await assert_history_is_whole(connection)


async def test_a_runner_that_slept_through_its_lease_changes_nothing_any_more(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    quickly = {"lease_s": LEASE_S, "heartbeat_s": 0.2, "sweep_s": 0.2}
    _, sleeper = await penstock.start(**quickly)
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=0.5, diary=str(diary))
    await asyncio.gather(executed(diary, 2), penstock.start_runner(**quickly))

    sleeper.send(signal.SIGSTOP)  # its block host goes on: the answer waits for the sleeper to wake up
    before = len(diary_of(diary))
    await executed(diary, before + 1)
    sleeper.send(signal.SIGCONT)
    await eventually(lambda: "lease lost" in sleeper.log, timeout=10)

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    assert {block["state"] for block in run["block_runs"]} == {"success"}
    steps = [step for step, _ in diary_of(diary)]
    again = before - 1 if len(steps) > 5 else before  # a step may have been committed just before the sleep
    assert steps == [1, 2, 3, 4, 5][:before] + [1, 2, 3, 4, 5][again:]
    await assert_history_is_whole(connection)

    await penstock.processes[-1].end()  # the one that took over
    assert (await penstock.ended(await trigger(penstock, "quick")))["state"] == "success"  # the sleeper is of use again


async def test_runs_of_a_runner_that_nobody_remembers_are_taken_back(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    await penstock.start()
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=0.2, diary=str(diary))
    await executed(diary, 2)

    await connection.execute("DELETE FROM runners")

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    await assert_history_is_whole(connection)


async def test_a_run_that_kills_every_runner_is_given_up(penstock: Penstock, connection: Connection) -> None:
    _, victim = await penstock.start()
    run_id = await trigger(penstock, "steps", seconds=30)
    await connection.execute("UPDATE runs SET max_attempts = 2")

    for attempt in (1, 2):

        async def is_taken(attempt: int = attempt) -> bool:
            run = await penstock.run(run_id)
            return run["state"] == "running" and run["attempt"] == attempt

        await eventually(is_taken, timeout=15)
        await victim.end(signal.SIGKILL)
        victim = await penstock.start_runner()

    run = await penstock.ended(run_id)
    assert (run["state"], run["error"]["type"]) == ("failed", "CrashLoop")
    await assert_history_is_whole(connection)


async def test_a_runner_that_drains_finishes_what_it_has(penstock: Penstock, tmp_path: Path) -> None:
    _, runner = await penstock.start()
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=0.1, diary=str(diary))
    await executed(diary, 1)

    runner.send(signal.SIGTERM)
    late_id = await trigger(penstock, "quick")

    assert await runner.end() == 0
    run = await penstock.run(run_id)
    assert (run["state"], run["attempt"]) == ("success", 1)
    assert (await penstock.run(late_id))["state"] == "queued"  # no new work is taken
    await penstock.start_runner()
    assert (await penstock.ended(late_id))["state"] == "success"


async def test_a_runner_out_of_time_to_drain_hands_its_run_back(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, runner = await penstock.start(drain_s=0.2)
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "steps", seconds=1, diary=str(diary))
    await asyncio.gather(executed(diary, 2), penstock.start_runner())

    assert await runner.end(within=4) == 0

    assert not await connection.fetchval("SELECT count(*) FROM runs WHERE error IS NOT NULL")
    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 1)  # a restart of ours costs the run no attempt
    steps = [step for step, _ in diary_of(diary)]  # at most the one that was under way is executed again
    assert (sorted(set(steps)), steps == sorted(steps), len(steps) <= 6) == ([1, 2, 3, 4, 5], True, True)
    assert (await blocks_of(penstock, run_id))["one"]["attempt"] == 1
    await assert_history_is_whole(connection)


async def test_runners_that_come_and_go_under_load_fail_no_run(penstock: Penstock, connection: Connection) -> None:
    _, runner = await penstock.start(drain_s=0)
    hook = await penstock.hook("quick")

    async with Crowd(hook, per_second=100) as crowd:
        for _ in range(4):
            await crowd.reached(len(crowd.accepted) + 40)
            assert await runner.end() == 0
            runner = await penstock.start_runner(drain_s=0)
        await crowd.reached(len(crowd.accepted) + 20)

    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted)}
    assert await connection.fetchval("SELECT max(attempt) FROM runs") == 1
    await assert_history_is_whole(connection)
