"""What the founding documents let a user do with a run, done with our own API: one test for each thing they describe.

They are the documentation of four products (Airflow, Brokoli's Runs API, Mage, Maestro). Their own paths are what the
dialects are for; here each of their requests has its equal under `/v1`.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.problems import problem
from tests.sockets import opened, told
from tests.system import Penstock
from tests.waiting import eventually

ORDERS = "customer_orders_daily"
Json = dict[str, Any]


async def trigger(shared: Penstock, pipeline_id: str = ORDERS, **body: Any) -> Json:
    answer = await shared.client.post(f"/v1/pipelines/{pipeline_id}/runs", json=body)
    assert answer.status_code == 202, answer.text
    found: Json = answer.json()
    return found


async def read(shared: Penstock, path: str, **query: Any) -> Any:
    answer = await shared.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
async def finished(shared: Penstock) -> Json:
    """A run that has succeeded, with its two blocks."""
    run = await trigger(shared, variables={"date": "2024-01-15"}, note="Manual backfill triggered by CI")
    return await shared.ended(run["id"])


async def test_a_run_is_triggered_with_a_logical_date_and_a_note(shared: Penstock) -> None:
    run = await trigger(shared, logical_date="2024-06-15T00:00:00Z", note="Manual backfill triggered by CI")

    assert (run["pipeline_id"], run["logical_date"]) == (ORDERS, "2024-06-15T00:00:00Z")
    assert (await shared.ended(run["id"]))["note"] == "Manual backfill triggered by CI"


async def test_a_run_is_triggered_with_parameters_that_its_blocks_read(shared: Penstock) -> None:
    variables = {"target_date": "2024-06-15", "region": "eu-west-1", "dry_run": False}
    run = await trigger(
        shared, "parameterised_pipeline", variables=variables, note="Triggered from deployment pipeline"
    )

    await shared.ended(run["id"])
    shown = await read(shared, f"/v1/runs/{run['id']}/blocks/process/preview")
    assert shown["value"] == "eu-west-1 2024-06-15 False"


async def test_a_form_can_be_built_from_the_parameters_and_a_wrong_one_is_pointed_at(shared: Penstock) -> None:
    schema = (await read(shared, "/v1/pipelines/parameterised_pipeline"))["params_schema"]
    properties = schema["$defs"]["Parameters"]["properties"]
    assert properties["region"] == {"enum": ["eu-west-1", "us-east-1"], "default": "us-east-1"}
    assert properties["dry_run"] == {"type": "boolean", "default": True}

    wrong = {"variables": {"region": "mars", "dry_run": "perhaps"}}
    answer = await shared.client.post("/v1/pipelines/parameterised_pipeline/runs", json=wrong)

    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/variables/region", "/variables/dry_run"}


async def test_the_same_run_asked_for_twice_is_a_conflict_that_names_the_first(shared: Penstock) -> None:
    first = await trigger(shared, run_key="manual__2024-06-15")
    answer = await shared.client.post(f"/v1/pipelines/{ORDERS}/runs", json={"run_key": "manual__2024-06-15"})

    problem(answer, 409, "conflict")
    assert answer.json()["run_id"] == first["id"]


async def test_a_payload_that_is_too_large_is_told_to_become_a_reference(shared: Penstock) -> None:
    answer = await shared.client.post(f"/v1/pipelines/{ORDERS}/runs", json={"note": "x" * (2 << 20)})

    assert "reference" in problem(answer, 413, "too_large")


async def test_a_run_is_shown_with_its_nodes_rows_and_durations(finished: Json) -> None:
    assert finished["state"] == "success"
    assert finished["started_at"] < finished["finished_at"]
    assert [(b["block_id"], b["state"], b["row_count"], b["attempt"]) for b in finished["block_runs"]] == [
        ("source1", "success", 60, 1),
        ("transform1", "success", 48, 1),
    ]
    assert all(block["duration_ms"] >= 0 and block["queue_ms"] >= 0 for block in finished["block_runs"])


async def test_the_runs_of_a_pipeline_are_paged(shared: Penstock, finished: Json) -> None:
    await trigger(shared)
    page = await read(shared, "/v1/runs", pipeline_id=ORDERS, limit=1)
    rest = await read(shared, "/v1/runs", pipeline_id=ORDERS, limit=200, cursor=page["next_cursor"])

    assert len(page["items"]) == 1
    assert finished["id"] in {run["id"] for run in rest["items"]}


async def test_a_failed_run_is_resumed_from_its_first_failed_node(shared: Penstock, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    failed = await shared.ended((await trigger(shared, variables={"mended": str(mended)}))["id"])
    assert [block["state"] for block in failed["block_runs"]] == ["success", "failed"]
    mended.touch()

    answer = await shared.client.post(f"/v1/runs/{failed['id']}/resume")

    assert answer.status_code == 202
    resumed = await shared.ended(answer.json()["id"])
    assert (resumed["state"], resumed["resumed_from"]) == ("success", failed["id"])
    assert resumed["block_runs"][0] == failed["block_runs"][0]
    again = await shared.client.post(f"/v1/runs/{resumed['id']}/resume")
    problem(again, 409, "conflict")


async def test_a_waiting_run_is_cancelled(shared: Penstock) -> None:
    await shared.client.patch("/v1/pipelines/parameterised_pipeline", json={"is_paused": True})
    run = await trigger(shared, "parameterised_pipeline")

    answer = await shared.client.post(f"/v1/runs/{run['id']}/cancel")

    await shared.client.patch("/v1/pipelines/parameterised_pipeline", json={"is_paused": False})
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


async def test_a_paused_pipeline_takes_runs_that_start_when_it_is_unpaused(shared: Penstock) -> None:
    paused = await shared.client.patch("/v1/pipelines/parameterised_pipeline", json={"is_paused": True})
    run = await trigger(shared, "parameterised_pipeline")
    assert paused.json()["is_paused"]
    assert (await read(shared, "/v1/pipelines/parameterised_pipeline"))["is_paused"]  # no call ever unpauses
    assert (await shared.run(run["id"]))["state"] == "queued"

    await shared.client.patch("/v1/pipelines/parameterised_pipeline", json={"is_paused": False})

    assert (await shared.ended(run["id"]))["state"] == "success"


async def test_the_log_is_read_by_node_and_downloaded(shared: Penstock, finished: Json) -> None:
    lines = (await read(shared, f"/v1/runs/{finished['id']}/logs", block_id="source1"))["items"]
    assert [(line["block_id"], line["level"], line["message"], line["fields"]) for line in lines] == [
        ("source1", "info", "fetching", {"date": "2024-01-15"})
    ]

    file = await shared.client.get(f"/v1/runs/{finished['id']}/logs/export")

    assert file.headers["content-disposition"].startswith("attachment")
    assert file.text.rstrip().endswith('[info] [source1] fetching {"date":"2024-01-15"}')


async def test_the_data_of_a_node_are_previewed_and_profiled(shared: Penstock, finished: Json) -> None:
    path = f"/v1/runs/{finished['id']}/blocks/source1"
    shown = await read(shared, f"{path}/preview")
    assert (shown["columns"], len(shown["rows"]), shown["row_count"]) == (["id", "name", "email"], 50, 60)
    assert shown["rows"][1] == {"id": 1, "name": "User 1", "email": "user1@example.com"}

    profile = await read(shared, f"{path}/profile")

    assert [(c["name"], c["null_count"], c["unique_count"], c["is_numeric"]) for c in profile["columns"]] == [
        ("id", 0, 60, True),
        ("name", 0, 60, False),
        ("email", 0, 60, False),
    ]


async def test_a_dry_run_shows_ten_rows_of_each_node_and_keeps_no_run(shared: Penstock) -> None:
    before = await read(shared, "/v1/runs", pipeline_id=ORDERS, limit=1)

    answer = await shared.client.post(f"/v1/pipelines/{ORDERS}/dry-run")

    assert answer.status_code == 200, answer.text
    node = answer.json()["blocks"]["source1"]
    assert (node["state"], node["columns"], len(node["rows"])) == ("success", ["id", "name", "email"], 10)
    assert await read(shared, "/v1/runs", pipeline_id=ORDERS, limit=1) == before


async def test_a_range_of_dates_is_backfilled_in_order(shared: Penstock) -> None:
    wanted = {"start": "2024-05-01", "end": "2024-05-05", "max_active_runs": 2}
    backfill = (await shared.client.post(f"/v1/pipelines/{ORDERS}/backfills", json=wanted)).json()
    assert backfill["total"] == 5

    async def is_completed() -> bool:
        found: Json = await read(shared, f"/v1/backfills/{backfill['id']}")
        return found["state"] == "completed" and found["success"] == 5

    await eventually(is_completed, timeout=30)
    runs = (await read(shared, "/v1/runs", backfill_id=backfill["id"]))["items"]
    assert [run["logical_date"] for run in reversed(runs)] == [f"2024-05-0{day}T00:00:00Z" for day in range(1, 6)]


async def test_runs_are_grouped_by_day_for_a_calendar(shared: Penstock, finished: Json) -> None:
    days = (await read(shared, "/v1/calendar", days=90))["items"]

    assert len(days) == 90
    today = days[-1]
    assert today["date"] == finished["created_at"][:10] or today["date"] == dt.datetime.now(dt.UTC).date().isoformat()
    assert today["success"] >= 1


async def test_the_lineage_connects_pipelines_with_the_data_that_they_share(shared: Penstock) -> None:
    found = await read(shared, "/v1/lineage", pipeline_id=ORDERS)

    assert "dataset" in {node["type"] for node in found["nodes"]}
    assert {edge["type"] for edge in found["edges"]} >= {"reads", "writes"}


async def test_the_scheduler_says_what_fires_next(shared: Penstock) -> None:
    schedule = await shared.schedule(ORDERS, kind="time", cron="0 6 * * *", timezone="Europe/Paris")

    items = (await read(shared, "/v1/scheduler", limit=200))["items"]

    entry = next(item for item in items if item["schedule_id"] == schedule["id"])
    assert (entry["pipeline_id"], entry["cron"], entry["is_paused"]) == (ORDERS, "0 6 * * *", False)
    assert entry["next_fire_at"] > dt.datetime.now(dt.UTC).isoformat()[:19]
    await shared.client.delete(f"/v1/schedules/{schedule['id']}")


async def test_one_request_tells_what_runs_what_failed_and_the_trend(shared: Penstock, finished: Json) -> None:
    dashboard = await read(shared, "/v1/dashboard")

    assert len(dashboard["trend"]) == 7
    assert dashboard["trend"][-1]["success"] >= 1
    assert {"running", "queued", "last_failures", "top_failing", "next_fires"} <= dashboard.keys()


async def test_what_people_remember_is_found(shared: Penstock) -> None:
    hits = (await read(shared, "/v1/search", q="CUSTOMER_orders", limit=30))["items"]

    assert ("pipeline", ORDERS) in {(hit["type"], hit["id"]) for hit in hits}


async def test_the_system_describes_itself(shared: Penstock) -> None:
    system = await read(shared, "/v1/system")

    assert system["pipelines"] >= 2
    assert {"version", "database_bytes", "active_runs", "runners"} <= system.keys()


async def test_old_runs_are_counted_before_they_are_purged(shared: Penstock) -> None:
    answer = await shared.client.post("/v1/purge", json={"days": 30, "dry_run": True})

    assert (answer.status_code, answer.json()["runs"]) == (200, 0)


async def test_a_schedule_is_fired_by_its_token_and_keeps_the_payload(shared: Penstock) -> None:
    hook = await shared.hook(ORDERS, name="late forest")

    run = await shared.ended(await shared.delivered_run(hook, '{"env": "dev", "test": 1}'))

    assert (run["event_variables"], run["state"]) == ({"env": "dev", "test": 1}, "success")
    assert (await read(shared, "/v1/runs", schedule_id=run["schedule_id"]))["items"][0]["id"] == run["id"]


async def test_a_socket_hears_of_runs_and_nodes(shared: Penstock, finished: Json) -> None:
    async with opened(shared.url, f"?topics=run:{finished['id']}") as socket:
        heard = await told(socket, until="end")

    changes = [(f["type"], f.get("block_id"), f["state"]) for f in heard if f["type"] in ("run", "block")]
    assert ("block", "transform1", "success") in changes
    assert changes[-1] == ("run", None, "success")
