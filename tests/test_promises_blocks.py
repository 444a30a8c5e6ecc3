"""G9 and G11: no user code stops a runner, a failure says why, and a cancel is honoured in each state."""

import asyncio
import datetime as dt
import itertools
import signal
from pathlib import Path

import pytest

from tests.faults import Connection, all_ended, assert_history_is_whole, blocks_of, diary_of, trigger
from tests.system import Json, Penstock
from tests.waiting import eventually

REASONS = {
    "raises": ("breaks", "ValueError", "no such region: {'region': 'mars'}"),
    "exits": ("leaves", "SystemExit", "3"),
    "leaves_at_once": ("vanishes", "HostDied", "exited with code 7"),
    "segfaults": ("crashes", "HostDied", "SIGSEGV"),
    "spins": ("turns", "Timeout", "did not finish within 0.5 s"),
}


async def heartbeat(connection: Connection) -> dt.datetime:
    beat: dt.datetime = await connection.fetchval("SELECT max(heartbeat_at) FROM runners")
    return beat


@pytest.mark.parametrize("pipeline_id", REASONS)
async def test_a_block_that_ends_badly_fails_its_run_with_the_reason(shared: Penstock, pipeline_id: str) -> None:
    run = await shared.ended(await shared.delivered_run(await shared.hook(pipeline_id), b'{"region": "mars"}'))

    block_id, kind, message = REASONS[pipeline_id]
    assert (run["state"], run["error"]["type"], run["error"]["block_id"]) == ("failed", kind, block_id)
    assert message in run["error"]["message"]
    [block] = run["block_runs"]
    assert (block["state"], block["error"]["type"]) == ("failed", kind)


async def test_whatever_blocks_do_the_runner_lives_and_others_go_on(penstock: Penstock, connection: Connection) -> None:
    _, runner = await penstock.start(hosts=4, heartbeat_s=0.1)
    beats = [await heartbeat(connection)]

    bad = [await trigger(penstock, pipeline_id) for pipeline_id in REASONS for _ in range(2)]
    good = [await trigger(penstock, "quick") for _ in range(10)]

    async def beats_go_on() -> bool:
        if (beat := await heartbeat(connection)) != beats[-1]:
            beats.append(beat)
        return not await connection.fetchval("SELECT count(*) FROM runs WHERE finished_at IS NULL")

    await eventually(beats_go_on, timeout=30)
    assert {(await penstock.run(run_id))["state"] for run_id in bad} == {"failed"}
    assert {(await penstock.run(run_id))["state"] for run_id in good} == {"success"}
    pauses = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert len(beats) > 3
    assert max(pauses) < dt.timedelta(seconds=2)
    assert runner.is_alive
    assert {row["attempt"] for row in await connection.fetch("SELECT attempt FROM runs")} == {1}
    await assert_history_is_whole(connection)


async def test_a_block_is_tried_again_and_each_attempt_has_its_log(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")

    story = [event async for event in shared.events(f"/v1/runs/{run_id}/stream")]

    states = [(e["data"]["state"], e["data"]["attempt"]) for e in story if e["event"] == "block"]
    assert states == [
        ("running", 1), ("pending", 1), ("running", 2), ("pending", 2), ("running", 3), ("success", 3),
    ]  # fmt: skip
    assert (await blocks_of(shared, run_id))["tries"]["attempt"] == 3
    for attempt in (1, 2, 3):
        logs = (await shared.client.get(f"/v1/runs/{run_id}/logs", params={"attempt": attempt})).json()["items"]
        assert [(line["message"], line["attempt"]) for line in logs] == [(f"attempt {attempt}", attempt)]


async def test_what_stands_behind_a_failure_is_not_begun_and_the_rest_is_finished(shared: Penstock) -> None:
    run_id = await trigger(shared, "branches")

    run = await shared.ended(run_id)

    assert (run["state"], run["error"]["block_id"], run["error"]["message"]) == ("failed", "bad", "bad")
    blocks = await blocks_of(shared, run_id)
    assert {name: block["state"] for name, block in blocks.items()} == {
        "good": "success",
        "bad": "failed",
        "after_good": "success",
        "after_bad": "upstream_failed",
        "after_both": "upstream_failed",
    }
    assert blocks["after_both"]["started_at"] is None


async def test_a_flood_of_log_lines_is_cut_with_a_word_about_it(
    shared: Penstock, shared_connection: Connection
) -> None:
    run_id = await trigger(shared, "chatty", lines=20_000)

    assert (await shared.ended(run_id, timeout=60))["state"] == "success"

    lines = await shared_connection.fetch("SELECT level, message FROM logs WHERE run_id = $1 ORDER BY seq", run_id)
    assert len(lines) == 10_001
    assert lines[9_999]["message"] == "line 9999"
    assert lines[10_000]["level"] == "warning"
    assert lines[10_000]["message"].startswith("log truncated:")


async def test_a_queued_run_is_cancelled_at_once(penstock: Penstock, connection: Connection) -> None:
    _, runner = await penstock.start()
    await runner.end()
    run_id = await trigger(penstock, "quick")

    answer = await penstock.client.post(f"/v1/runs/{run_id}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    again = await penstock.client.post(f"/v1/runs/{run_id}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/conflict")
    await penstock.start_runner()
    assert (await penstock.ended(await trigger(penstock, "quick")))["state"] == "success"
    assert await connection.fetchval("SELECT count(*) FROM block_runs WHERE run_id = $1", run_id) == 0
    await assert_history_is_whole(connection)


async def test_a_running_run_is_cancelled_in_the_middle_of_a_block(
    shared: Penstock, shared_connection: Connection, tmp_path: Path
) -> None:
    run_id = await begun(shared, tmp_path / "diary", seconds=30)

    answer = await shared.client.post(f"/v1/runs/{run_id}/cancel")

    assert answer.status_code == 202
    run = await shared.ended(run_id, timeout=5)
    assert (run["state"], run["error"]) == ("cancelled", None)
    assert {block["state"] for block in run["block_runs"]} == {"cancelled"}
    assert diary_of(tmp_path / "diary") == [(1, 1)]  # no other block was begun
    assert (await shared.client.post(f"/v1/runs/{run_id}/cancel")).status_code == 409
    await assert_history_is_whole(shared_connection)


async def test_many_cancels_of_one_run_end_it_once(
    shared: Penstock, shared_connection: Connection, tmp_path: Path
) -> None:
    run_id = await begun(shared, tmp_path / "diary", seconds=30)

    answers = await asyncio.gather(*(shared.client.post(f"/v1/runs/{run_id}/cancel") for _ in range(10)))

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert (await shared.ended(run_id))["state"] == "cancelled"
    await assert_history_is_whole(shared_connection)


async def test_a_run_that_has_ended_cannot_be_cancelled(shared: Penstock) -> None:
    run_id = await trigger(shared, "quick")
    await shared.ended(run_id)

    answer = await shared.client.post(f"/v1/runs/{run_id}/cancel")

    assert (answer.status_code, answer.json()["state"]) == (409, "success")
    assert (await shared.run(run_id))["state"] == "success"


async def test_a_cancelled_run_whose_runner_is_killed_is_cancelled(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, runner = await penstock.start()
    run_id = await begun(penstock, tmp_path / "diary", seconds=30)

    runner.send(signal.SIGSTOP)  # so that it cannot obey
    assert (await penstock.client.post(f"/v1/runs/{run_id}/cancel")).status_code == 202
    await runner.end(signal.SIGKILL)
    await penstock.start_runner()

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("cancelled", 1)
    assert await all_ended(connection, within=1) == {"cancelled": 1}
    assert diary_of(tmp_path / "diary") == [(1, 1)]
    await assert_history_is_whole(connection)


async def begun(penstock: Penstock, diary: Path, *, seconds: float) -> str:
    """Start a run of `steps` and wait until its first block is executed."""
    run_id = await trigger(penstock, "steps", seconds=seconds, diary=str(diary))
    await eventually(lambda: diary_of(diary), timeout=10)

    async def is_told() -> Json | bool:
        return (await blocks_of(penstock, run_id))["one"]["state"] == "running"

    await eventually(is_told)
    return run_id
