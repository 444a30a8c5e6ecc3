"""What Dadosfera's page on executing a pipeline shows, sent as shown; and what stands between its words and ours."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.dialects.maestro import wire
from gateway.embedded import EmbeddedServers
from schemas.states import BlockState, RunState
from tests.house.code import ROOT
from tests.system import KEY, Penstock
from tests.waiting import eventually

PIPELINE_ID = "1b33ad2f-33d3-4837-9eeb-83c82c8b909d"
UNDERSCORED = "1b33ad2f_33d3_4837_9eeb_83c82c8b909d"
HEADERS = {"authorization": f"Bearer {KEY}"}
EXECUTE = "/platform/pipeline/execute"


@pytest.fixture
async def maestro(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with Penstock(
        database_url=database_url,
        redis_url=servers.redis_url,
        directory=tmp_path,
        pipelines=ROOT / "tests" / "fixtures" / "dialects" / "maestro" / "pipelines",
    ) as system:
        await system.start()
        yield system


async def test_each_request_of_the_page_is_answered_as_the_page_says(maestro: Penstock) -> None:
    client = maestro.client
    for spelling in (PIPELINE_ID, UNDERSCORED, PIPELINE_ID.upper()):
        response = await client.post(EXECUTE, headers=HEADERS, json={"pipeline_id": spelling})
        answer = response.json()
        run_id = answer["data"].pop("run_id")
        assert response.status_code == 200
        assert answer == {
            "status": True,
            "data": {"message": "Pipeline execution triggered successfully", "pipeline_id": UNDERSCORED},
        }
        assert run_id.startswith("manual__20")
        assert run_id.endswith("+00:00")

    unknown = await client.post(EXECUTE, json={"pipeline_id": "2b33ad2f-33d3-4837-9eeb-83c82c8b909d"})
    assert (unknown.status_code, unknown.json()) == (
        404,
        {
            "detail": {
                "status": False,
                "exception_type": "PipelineNotFound",
                "traceback": "Pipeline with id 2b33ad2f_33d3_4837_9eeb_83c82c8b909d not found",
                "data": None,
            }
        },
    )
    await client.post("/platform/pipeline/pause", json={"pipeline_id": PIPELINE_ID})
    paused = await client.post(EXECUTE, json={"pipeline_id": PIPELINE_ID})
    assert (paused.status_code, paused.json()) == (
        400,
        {
            "detail": {
                "status": False,
                "exception_type": "PipelinePaused",
                "traceback": "Cannot execute paused pipeline. Use /pipeline/unpause first.",
                "data": None,
            }
        },
    )
    missing = await client.post(EXECUTE, json={})
    assert (missing.status_code, missing.json()) == (400, {"detail": "pipeline_id is required"})


async def test_progress_is_monitored_as_the_page_says_and_a_run_is_one_of_ours(maestro: Penstock) -> None:
    client = maestro.client
    executed = await client.post(EXECUTE, json={"pipeline_id": PIPELINE_ID})
    run_id = executed.json()["data"]["run_id"]

    async def has_succeeded() -> bool:
        runs = (await client.get(f"/platform/pipeline/{PIPELINE_ID}/pipeline_run")).json()
        return [run["last_status"] for run in runs] == ["SUCCESS"]

    await eventually(has_succeeded, timeout=20)
    (run,) = (await client.get("/v1/runs")).json()["items"]
    followed = (await client.get(f"/platform/pipeline/{PIPELINE_ID}/pipeline_run/{run_id}")).json()
    assert (run["run_key"], run["number"], run["pipeline_id"]) == (run_id, followed["id"], UNDERSCORED)
    assert run["id"].replace("-", "_") == followed["pipeline_run_id"]


async def test_a_run_that_came_in_by_a_webhook_is_seen_and_so_is_its_end(maestro: Penstock) -> None:
    client = maestro.client
    await client.post("/platform/pipeline/pause", json={"pipeline_id": PIPELINE_ID})
    run_id = await maestro.delivered_run(await maestro.hook(UNDERSCORED))
    path = f"/platform/pipeline/{PIPELINE_ID}/pipeline_run"
    waiting = (await client.get(f"{path}/{run_id}")).json()
    await client.post(f"/v1/runs/{run_id}/cancel")

    (cancelled,) = (await client.get(path)).json()

    assert (waiting["last_status"], waiting["trace"]) == ("RUNNING", None)
    assert (cancelled["last_status"], cancelled["trace"]) == ("FAILED", "The run was cancelled.")
    assert cancelled["updated_at"] > cancelled["created_at"] == waiting["created_at"]
    assert (await client.get(path, params={"offset": 1})).json() == []
    assert (await client.get(path, params={"limit": "many"})).status_code == 422


async def test_no_request_is_answered_with_500(maestro: Penstock) -> None:
    statuses = {}
    ids = ["%00", "%ff", "%ED%A0%80", "..", "x" * 5000, "%F0%9F%92%A9", "1b33ad2f-33d3_4837-9eeb_83c82c8b909d"]
    for odd in ids:
        for path in (f"/platform/pipeline/{odd}", f"/platform/pipeline/{UNDERSCORED}/pipeline_run/{odd}"):
            statuses[path] = (await maestro.client.get(path)).status_code
    bodies = ["[1]", "null", '{"name": "\\u0000"}', '{"name": "\\ud800"}', '{"description": 5}', "[" * 9000, "\xff", ""]
    for body in bodies:
        content = body.encode("latin-1")
        for path, method in ((f"/platform/pipeline/{UNDERSCORED}", "PATCH"), (EXECUTE, "POST")):
            answer = await maestro.client.request(method, path, content=content)
            statuses[f"{path} {body[:20]}"] = answer.status_code
            assert answer.status_code == 200 or answer.json()["detail"]

    assert set(statuses.values()) <= {200, 400, 404, 422}, statuses
    assert (await maestro.client.patch(f"/platform/pipeline/{UNDERSCORED}", content="[1]")).json() == {
        "detail": "/: Expected `object`, got `array`"
    }


@pytest.mark.parametrize(
    ("given", "shown", "meant"),
    [
        (PIPELINE_ID, UNDERSCORED, [PIPELINE_ID, UNDERSCORED]),
        (UNDERSCORED, UNDERSCORED, [UNDERSCORED, PIPELINE_ID]),
        (PIPELINE_ID.upper(), UNDERSCORED, [PIPELINE_ID.upper(), UNDERSCORED, PIPELINE_ID]),
        ("customer-orders", "customer-orders", ["customer-orders", "customer_orders"]),
        ("customer_orders", "customer_orders", ["customer_orders", "customer-orders"]),
        ("a-b_c", "a-b_c", ["a-b_c", "a_b_c", "a-b-c"]),
        ("quick", "quick", ["quick"]),
    ],
)
def test_an_id_is_read_in_each_spelling_and_written_in_one(given: str, shown: str, meant: list[str]) -> None:
    assert wire.underscored(given) == shown
    assert wire.spellings(given) == meant


@pytest.mark.parametrize("given", [PIPELINE_ID, UNDERSCORED])
def test_a_run_is_asked_for_as_ours_are_named(given: str) -> None:
    assert wire.hyphenated(given) == PIPELINE_ID
    assert wire.hyphenated("manual__2024-12-18T10:30:00+00:00") == "manual__2024-12-18T10:30:00+00:00"


def test_each_state_of_ours_has_a_word_of_maestros() -> None:
    assert set(wire.RUN_STATUS) == set(RunState)
    assert set(wire.JOB_STATUS) == set(BlockState)
