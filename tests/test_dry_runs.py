"""A dry run shows what each block returns, and leaves nothing behind: no run, no row, no process that goes on."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import Connection, diary_of
from tests.system import Json, Penstock
from tests.waiting import eventually

LEFT_NOTHING = """
    SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM block_runs) + (SELECT count(*) FROM block_outputs)
         + (SELECT count(*) FROM changes) + (SELECT count(*) FROM logs) + (SELECT count(*) FROM dry_runs) = 0
"""


async def dry_run(penstock: Penstock, pipeline_id: str, *, wait: int = 30, **body: Any) -> httpx.Response:
    return await penstock.client.post(
        f"/v1/pipelines/{pipeline_id}/dry-run", json=body, headers={"prefer": f"wait={wait}"}
    )


async def result_of(penstock: Penstock, pipeline_id: str, **body: Any) -> Json:
    answer = await dry_run(penstock, pipeline_id, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_dry_run_shows_every_block_on_its_first_rows_and_leaves_nothing(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start()

    result = await result_of(penstock, "tables", variables={"rows": 1000, "padding": 5000})

    assert (result["pipeline_id"], result["state"], result["error"]) == ("tables", "success", None)
    assert list(result["blocks"]) == ["listed", "framed", "lazy", "total"]
    listed, lazy, total = (result["blocks"][name] for name in ("listed", "lazy", "total"))
    assert (listed["row_count"], listed["columns"], len(listed["rows"])) == (1000, ["id", "name", "at", "price"], 10)
    assert [row["id"] for row in lazy["rows"]] == list(range(10))
    assert total["value"] == {"sum": 22.5, "rows": 10, "is_dry_run": True}
    assert (await result_of(penstock, "tables", rows=3))["blocks"]["total"]["value"]["rows"] == 3
    assert await connection.fetchval(LEFT_NOTHING)


async def test_a_dry_run_tells_what_fails_without_trying_again(shared: Penstock) -> None:
    result = await result_of(shared, "flaky")
    assert (result["state"], result["error"]["type"]) == ("failed", "ConnectionError")
    assert result["blocks"]["tries"]["state"] == "failed"

    result = await result_of(shared, "raises", event_variables={"region": "mars"})
    assert result["blocks"]["breaks"]["error"]["message"] == "no such region: {'region': 'mars'}"

    result = await result_of(shared, "branches")
    assert {name: block["state"] for name, block in result["blocks"].items()} == {
        "good": "success", "bad": "failed", "after_good": "success", "after_bad": "upstream_failed",
        "after_both": "upstream_failed",
    }  # fmt: skip
    assert (await result_of(shared, "spins"))["error"]["type"] == "Timeout"
    assert (await result_of(shared, "leaves_at_once"))["error"]["type"] == "HostDied"


async def test_a_dry_run_shows_every_item_of_a_mapped_block_and_calls_nobody_back(
    shared: Penstock, tmp_path: Path
) -> None:
    result = await result_of(shared, "spreads", rows=3)
    assert [rows[0]["n"] for rows in result["blocks"]["grown"]["value"]] == [0, 1, 2]
    assert result["blocks"]["gathered"]["value"] == [2, 2, 2]

    await result_of(shared, "tells", variables={"diary": str(tmp_path / "diary"), "how": "failure"})
    assert (tmp_path / "diary").read_text().splitlines() == ["works"]


async def test_nothing_odd_in_a_dry_run_is_an_error_of_ours(shared: Penstock) -> None:
    result = await result_of(shared, "odd_tables")

    assert result["state"] == "success"
    assert result["blocks"]["long_text"]["value"].startswith("zzz")
    assert len(result["blocks"]["odd"]["rows"]) == 4


@pytest.mark.parametrize(
    ("pipeline_id", "body", "status", "pointer"),
    [
        ("tables", {"variables": {"rows": "many"}}, 422, "/variables/rows"),
        ("tables", {"rows": 0}, 422, "/rows"),
        ("tables", {"lines": 3}, 422, ""),
        ("nothing", {}, 404, None),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    shared: Penstock, pipeline_id: str, body: Json, status: int, pointer: str | None
) -> None:
    answer = await dry_run(shared, pipeline_id, **body)

    assert answer.status_code == status
    assert [error["pointer"] for error in answer.json().get("errors", [])] == ([] if pointer is None else [pointer])


async def test_without_redis_a_dry_run_only_takes_a_moment_longer(penstock: Penstock, connection: Connection) -> None:
    await penstock.start(redis_url="redis://127.0.0.1:1")

    assert (await result_of(penstock, "tables"))["state"] == "success"


async def test_a_dry_run_that_nobody_takes_is_answered_in_time(penstock: Penstock, connection: Connection) -> None:
    _, runner = await penstock.start()
    await runner.end()

    answer = await dry_run(penstock, "tables", wait=1)

    assert answer.status_code == 503
    assert answer.json()["detail"] == "No runner took the dry run within 1 s; is one up that has tables?"
    assert await connection.fetchval(LEFT_NOTHING)


async def test_a_dry_run_whose_runner_is_killed_is_taken_once_more(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, runner = await penstock.start(lease_s=5)
    asking = asyncio.create_task(dry_run(penstock, "steps", variables={"seconds": 1, "diary": str(tmp_path / "diary")}))
    await eventually(lambda: diary_of(tmp_path / "diary"), timeout=10)
    await runner.end(signal.SIGKILL)
    await penstock.start_runner(lease_s=5)

    answer = await asking

    assert answer.json()["state"] == "success", answer.text
    assert await connection.fetchval(LEFT_NOTHING)


async def test_a_dry_run_stops_when_its_caller_hangs_up(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    await penstock.start()
    with contextlib.suppress(httpx.ReadTimeout):
        await penstock.client.post(
            "/v1/pipelines/steps/dry-run",
            json={"variables": {"seconds": 2, "diary": str(tmp_path / "diary")}},
            timeout=1,
        )

    async def is_forgotten() -> bool:
        return bool(await connection.fetchval(LEFT_NOTHING))

    await eventually(is_forgotten)
    await eventually(lambda: "dry run" not in penstock.processes[0].log)
    assert len(diary_of(tmp_path / "diary")) == 1
