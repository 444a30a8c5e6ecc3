"""What a graph may do: skip, branch, go on after failures, map over lists, call back; and a thousand blocks of it."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults import Connection, assert_history_is_whole, blocks_of, trigger
from tests.system import Json, Penstock
from tests.waiting import eventually


async def states_of(penstock: Penstock, run_id: str) -> dict[str, str]:
    blocks = (await penstock.run(run_id))["block_runs"]
    return {block["block_id"]: block["state"] for block in blocks if block["map_index"] is None}


async def output_of(connection: Connection, run_id: str, block_id: str) -> Any:
    query = "SELECT data FROM block_outputs WHERE run_id = $1 AND block_id = $2"
    return msgspec.msgpack.decode(await connection.fetchval(query, run_id, block_id))


async def items_of(penstock: Penstock, run_id: str, block_id: str) -> list[Json]:
    return [block for block in (await penstock.run(run_id))["block_runs"] if block["block_id"] == block_id]


async def attempts_of(penstock: Penstock, run_id: str, block_id: str, **query: Any) -> list[Json]:
    answer = await penstock.client.get(f"/v1/runs/{run_id}/blocks/{block_id}/attempts", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def diary_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("chosen", "big", "small", "joined"),
    [
        ("big", "success", "skipped", [6, None]),
        ("small", "skipped", "success", [None, "small"]),
        ("", "skipped", "skipped", [None, None]),
    ],
)
async def test_a_branch_lets_only_the_chosen_blocks_go_on(
    shared: Penstock, shared_connection: Connection, chosen: str, big: str, small: str, joined: list[object]
) -> None:
    run_id = await trigger(shared, "routes", how=chosen)

    run = await shared.ended(run_id)

    assert (run["state"], run["error"]) == ("success", None)
    assert await states_of(shared, run_id) == {
        "route": "success",
        "big": big,
        "small": small,
        "joined": "success",
        "behind_both": "skipped",
    }
    assert await output_of(shared_connection, run_id, "joined") == joined
    await assert_history_is_whole(shared_connection)


async def test_a_branch_to_a_block_that_is_not_directly_behind_fails(shared: Penstock) -> None:
    run_id = await trigger(shared, "routes", how="big joined")

    run = await shared.ended(run_id)

    assert (run["state"], run["error"]["type"], run["error"]["block_id"]) == ("failed", "BranchUnknown", "route")
    assert "'joined' is not directly behind it; there is big, small" in run["error"]["message"]


async def test_a_block_that_has_nothing_to_do_is_skipped_and_says_why(
    shared: Penstock, shared_connection: Connection
) -> None:
    run_id = await trigger(shared, "skips")

    assert (await shared.ended(run_id))["state"] == "success"
    assert await states_of(shared, run_id) == {"nothing": "skipped", "behind": "skipped", "anyway": "success"}
    assert await output_of(shared_connection, run_id, "anyway") == [None]
    [line] = (await shared.client.get(f"/v1/runs/{run_id}/logs")).json()["items"]
    assert (line["block_id"], line["level"], line["message"]) == ("nothing", "info", "skipped: no rows today")


async def test_trigger_rules_go_on_after_a_failure_and_never_hide_it(
    shared: Penstock, shared_connection: Connection
) -> None:
    run_id = await trigger(shared, "rules")

    run = await shared.ended(run_id)

    assert (run["state"], run["error"]["block_id"]) == ("failed", "bad")
    assert await states_of(shared, run_id) == {
        "good": "success",
        "bad": "failed",
        "alarm": "success",
        "false_alarm": "skipped",
        "cleanup": "success",
        "gone": "upstream_failed",
    }
    assert await output_of(shared_connection, run_id, "cleanup") == [1, None]


@pytest.mark.parametrize(
    ("variables", "total"),
    [
        ({"items": 4}, [0, 1, 4, 9, -1, 0, 3, 8]),
        ({"items": 3, "how": "skip"}, [0, None, 4, -1, None, 3]),
        ({"items": 0}, []),
    ],
)
async def test_a_mapped_block_is_executed_once_for_each_item(
    shared: Penstock, shared_connection: Connection, variables: dict[str, Any], total: list[int | None]
) -> None:
    run_id = await trigger(shared, "mapped", **variables)

    assert (await shared.ended(run_id))["state"] == "success"

    block, *items = await items_of(shared, run_id, "square")
    assert (block["map_index"], block["state"], block["row_count"]) == (None, "success", variables["items"])
    assert [item["map_index"] for item in items] == list(range(variables["items"]))
    assert await output_of(shared_connection, run_id, "total") == total
    await assert_history_is_whole(shared_connection)


async def test_items_fail_retry_log_and_are_numbered_each_for_itself(shared: Penstock) -> None:
    run_id = await trigger(shared, "mapped", items=5, how="failure")

    run = await shared.ended(run_id)

    assert (run["state"], run["error"]["type"], run["error"]["block_id"]) == ("failed", "ValueError", "square")
    assert run["error"]["message"] == "item 1: not 1 (and 1 more of 5 items failed)"
    block, *items = await items_of(shared, run_id, "square")
    assert (block["state"], block["row_count"]) == ("failed", 5)
    assert [(item["state"], item["attempt"]) for item in items] == [
        ("success", 1), ("failed", 2), ("failed", 2), ("success", 1), ("success", 1),
    ]  # fmt: skip
    assert (await states_of(shared, run_id))["total"] == "upstream_failed"
    lines = (await shared.client.get(f"/v1/runs/{run_id}/logs")).json()["items"]
    keys = {line["map_index"]: line["fields"]["key"] for line in lines}
    assert keys == {index: f"{run_id}:square:{index}" for index in range(5)}
    found = await attempts_of(shared, run_id, "square", map_index=1)
    assert [(a["attempt"], a["state"], a["error"]["message"]) for a in found] == [
        (1, "failed", "not 1"),
        (2, "failed", "not 1"),
    ]
    assert all(a["started_at"] <= a["finished_at"] and a["queue_ms"] >= 0 for a in found)


@pytest.mark.parametrize(
    ("pipeline_id", "words"),
    [("maps_nothing", "which is no list"), ("too_many", "which has 10,001 items; 10,000 are the most")],
)
async def test_what_cannot_be_mapped_over_fails_with_the_reason(shared: Penstock, pipeline_id: str, words: str) -> None:
    run = await shared.ended(await trigger(shared, pipeline_id))

    assert (run["state"], run["error"]["type"]) == ("failed", "MapInvalid")
    assert words in run["error"]["message"]


async def test_items_that_succeeded_are_not_executed_again_after_kill_9(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, victim = await penstock.start(max_hosts=2)
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "mapped", items=8, seconds=0.25, diary=str(diary))

    async def four_are_done() -> bool:
        states = [item["state"] for item in await items_of(penstock, run_id, "square")]
        return states.count("success") >= 4

    await eventually(four_are_done, timeout=15)
    await victim.end(signal.SIGKILL)
    done = [item["map_index"] for item in await items_of(penstock, run_id, "square") if item["state"] == "success"]
    await penstock.start_runner(max_hosts=2)

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"]) == ("success", 2)
    times = Counter(int(line.split()[0]) for line in diary_of(diary))
    assert {index: times[index] for index in done} == dict.fromkeys(done, 1)
    assert await output_of(connection, run_id, "total") == [n * n for n in range(8)] + [n * n - 1 for n in range(8)]
    interrupted = next(index for index in range(8) if times[index] == 2)
    found = await attempts_of(penstock, run_id, "square", map_index=interrupted)
    assert [(a["attempt"], a["state"], a["error"] and a["error"]["type"]) for a in found] == [
        (1, "failed", "Interrupted"),
        (2, "success", None),
    ]
    await assert_history_is_whole(connection)


@pytest.mark.parametrize(
    ("how", "state", "words"),
    [
        (
            "success",
            "success",
            [
                "works",
                "told.works: works success None",
                "told.ends: ends success None",
                "run_succeeded: None success None",
            ],
        ),
        (
            "failure",
            "failed",
            [
                "works",
                "works_failed: works failed ValueError in works",
                "slow",
                "run_failed: None failed ValueError in works",
                "run_failed: None failed ValueError in works",
            ],
        ),
        (
            "cancel",
            "cancelled",
            ["works", "works_cancelled: works cancelled Cancelled in works", "run_cancelled: None cancelled None"],
        ),
    ],
)
async def test_callbacks_are_called_before_the_run_ends_and_change_nothing(
    shared: Penstock, shared_connection: Connection, tmp_path: Path, how: str, state: str, words: list[str]
) -> None:
    diary = tmp_path / "diary"
    run_id = await trigger(shared, "tells", how=how, diary=str(diary))
    if how == "cancel":
        await eventually(lambda: diary_of(diary), timeout=10)
        await shared.client.post(f"/v1/runs/{run_id}/cancel")

    assert (await shared.ended(run_id))["state"] == state

    assert Counter(diary_of(diary)) == Counter(words)
    told = {name: block for name, block in (await blocks_of(shared, run_id)).items() if name not in ("works", "ends")}
    assert {block["state"] for block in told.values()} == {"success"}
    if how == "failure":
        assert told["run_failed"]["attempt"] == 2
    await assert_history_is_whole(shared_connection)


async def test_a_run_that_is_handed_back_calls_nobody(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, runner = await penstock.start(drain_s=0.1)
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "tells", how="cancel", diary=str(diary))
    await eventually(lambda: diary_of(diary), timeout=10)

    assert await runner.end() == 0

    assert (await penstock.run(run_id))["state"] == "queued"
    assert diary_of(diary) == ["works"]
    await assert_history_is_whole(connection)


async def test_a_callback_that_succeeded_is_not_called_again_after_kill_9(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, victim = await penstock.start()
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "tells", how="failure", seconds=2, diary=str(diary))

    async def others_are_done() -> bool:
        states = await states_of(penstock, run_id)
        return (states.get("run_failed"), states.get("slow")) == ("success", "running")

    await eventually(others_are_done, timeout=15)
    await victim.end(signal.SIGKILL)
    await penstock.start_runner()

    run = await penstock.ended(run_id)
    assert (run["state"], run["attempt"], run["error"]["block_id"]) == ("failed", 2, "works")
    assert Counter(diary_of(diary)) == {
        "works": 1,  # it had failed for good
        "works_failed: works failed ValueError in works": 1,
        "run_failed: None failed ValueError in works": 2,  # its two attempts
        "slow": 2,
    }
    await assert_history_is_whole(connection)


async def test_a_resumed_run_executes_what_failed_and_what_went_on_without_it(
    shared: Penstock, shared_connection: Connection, tmp_path: Path
) -> None:
    diary, mended = tmp_path / "diary", tmp_path / "mended"
    run_id = await trigger(shared, "heals", diary=str(diary), how=str(mended))
    assert (await shared.ended(run_id))["state"] == "failed"
    first = ["called", "each 0", "each 1", "each 2", "sweep None", "alert"]
    assert Counter(diary_of(diary)) == Counter(first)

    run_id = await resumed(shared, run_id)
    assert (await shared.ended(run_id))["state"] == "failed"
    assert Counter(diary_of(diary)) - Counter(first) == Counter(["each 1", "sweep None", "alert"])

    mended.touch()
    before = Counter(diary_of(diary))
    run_id = await resumed(shared, run_id)
    assert (await shared.ended(run_id))["state"] == "success"
    assert Counter(diary_of(diary)) - before == Counter(["each 1", "sweep [0, 1, 2]"])
    await assert_history_is_whole(shared_connection)


async def resumed(penstock: Penstock, run_id: str) -> str:
    answer = await penstock.client.post(f"/v1/runs/{run_id}/resume")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_cancel_ends_a_mapped_block_with_its_items(
    shared: Penstock, shared_connection: Connection, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    run_id = await trigger(shared, "mapped", items=100, seconds=30, diary=str(diary))
    await eventually(lambda: diary_of(diary), timeout=10)

    await shared.client.post(f"/v1/runs/{run_id}/cancel")

    assert (await shared.ended(run_id))["state"] == "cancelled"
    block, *items = await items_of(shared, run_id, "square")
    assert (block["state"], block["row_count"], block["attempt"]) == ("cancelled", 100, 1)
    assert {item["state"] for item in items} == {"cancelled"}
    assert len(items) < 100
    assert (await states_of(shared, run_id))["total"] == "cancelled"
    await assert_history_is_whole(shared_connection)


@pytest.mark.parametrize("pipeline_id", ["deep", "wide"])
async def test_a_thousand_blocks_are_executed(
    shared: Penstock, shared_connection: Connection, pipeline_id: str
) -> None:
    run_id = await trigger(shared, pipeline_id)

    run = await shared.ended(run_id, timeout=60)

    assert run["state"] == "success"
    assert Counter(block["state"] for block in run["block_runs"]) == {"success": 1000}
    await assert_history_is_whole(shared_connection)


async def test_attempts_of_what_does_not_exist_are_not_found(shared: Penstock) -> None:
    run_id = await trigger(shared, "flaky")
    await shared.ended(run_id)

    assert [(a["attempt"], a["state"]) for a in await attempts_of(shared, run_id, "tries", limit=2)] == [
        (1, "failed"),
        (2, "failed"),
    ]
    answers = await asyncio.gather(
        *(
            shared.client.get(path)
            for path in (f"/v1/runs/{run_id}/blocks/nowhere/attempts", "/v1/runs/0/blocks/tries/attempts")
        )
    )
    assert [answer.status_code for answer in answers] == [404, 404]
