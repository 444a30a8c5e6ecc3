"""What Airflow 2's clients rely on beside single exchanges: many at once, runs begun anew, long logs, odd input."""

import ast
import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dialects.airflow_v1.accepting import prefers_json
from tests.system import KEY, Penstock
from tests.waiting import eventually

Json = dict[str, Any]
AS_JSON = {"accept": "application/json"}


def runs_of(dag_id: str, run_id: str = "", more: str = "") -> str:
    return f"/api/v1/dags/{dag_id}/dagRuns" + (f"/{run_id}" if run_id else "") + more


async def trigger(shared: Penstock, dag_id: str, **body: Any) -> httpx.Response:
    return await shared.client.post(runs_of(dag_id), json=body)


async def triggered(shared: Penstock, dag_id: str, **body: Any) -> Json:
    answer = await trigger(shared, dag_id, **body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def read(shared: Penstock, path: str) -> Any:
    answer = await shared.client.get(path, headers=AS_JSON)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ended(shared: Penstock, dag_id: str, run_id: str) -> Json:
    """Wait for a run as Airflow's clients do."""
    run: Json = {}

    async def has_ended() -> bool:
        run.update(await read(shared, runs_of(dag_id, run_id)))
        return run["state"] in ("success", "failed")

    await eventually(has_ended)
    return run


@pytest.fixture
async def paused(shared: Penstock) -> AsyncIterator[str]:
    """A pipeline that is paused, and runs one run at a time."""
    path = "/api/v1/dags/one_at_a_time?update_mask=is_paused"
    await shared.client.patch(path, json={"is_paused": True})
    yield "one_at_a_time"
    await shared.client.patch(path, json={"is_paused": False})


async def test_the_requests_of_the_guide_of_calabi_work_as_shown(shared: Penstock) -> None:
    """Founding document 000, `Triggering via REST API`; in Airflow a run without an id is named by its logical date."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    dated = '{\n"logical_date": "2024-06-15T00:00:00Z",\n"note": "Manual backfill triggered by CI"\n}'
    configured = """{
"conf": {
"target_date": "2024-06-15",
"region": "eu-west-1",
"dry_run": false
},
"note": "Triggered from deployment pipeline"
}"""

    first = await shared.client.post(runs_of("customer_orders_daily"), headers=headers, content=dated)
    second = await shared.client.post(runs_of("parameterised_pipeline"), headers=headers, content=configured)

    run = first.json()
    assert (first.status_code, second.status_code) == (200, 200)
    assert (run["dag_id"], run["dag_run_id"]) == ("customer_orders_daily", "manual__2024-06-15T00:00:00+00:00")
    assert (run["logical_date"], run["state"], run["conf"]) == ("2024-06-15T00:00:00+00:00", "queued", {})
    assert run["note"] == "Manual backfill triggered by CI"
    run = second.json()
    assert run["conf"] == {"target_date": "2024-06-15", "region": "eu-west-1", "dry_run": False}
    assert run["dag_run_id"] == f"manual__{run['logical_date']}"
    for dag_id, run_id in (
        ("customer_orders_daily", "manual__2024-06-15T00:00:00+00:00"),
        ("parameterised_pipeline", run["dag_run_id"]),
    ):
        found = await shared.client.get(runs_of(dag_id, run_id), headers={"Authorization": f"Bearer {KEY}"})
        assert found.json()["state"] in ("queued", "running", "success")
        assert (await ended(shared, dag_id, run_id))["state"] == "success"


async def test_triggers_of_one_moment_are_runs_of_their_own(shared: Penstock) -> None:
    made = await asyncio.gather(*(triggered(shared, "unlimited", conf={"seconds": 0}) for _ in range(30)))

    assert len({run["dag_run_id"] for run in made}) == 30
    assert len({run["logical_date"] for run in made}) == 30
    assert all(run["dag_run_id"] == f"manual__{run['logical_date']}" for run in made)


async def test_of_simultaneous_triggers_for_one_date_one_is_a_run(shared: Penstock) -> None:
    date = "2017-02-03T04:05:06Z"
    answers = await asyncio.gather(*(trigger(shared, "unlimited", execution_date=date) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert {answer.json().get("detail") for answer in answers if answer.status_code == 409} == {
        "DAGRun with DAG ID: 'unlimited' and DAGRun logical date: '2017-02-03 04:05:06+00:00' already exists"
    }
    found = await read(shared, runs_of("unlimited", more=f"?execution_date_gte={date}&execution_date_lte={date}"))
    assert found["total_entries"] == 1


async def test_a_run_with_an_id_has_a_date_of_its_own(shared: Penstock, tmp_path: Path) -> None:
    before = dt.datetime.now(dt.UTC)

    run = await triggered(shared, "unlimited", dag_run_id=f"own-{tmp_path.name}", conf={"seconds": 0})

    date = dt.datetime.fromisoformat(run["logical_date"])
    assert abs(date - before) < dt.timedelta(minutes=1)
    path = runs_of("unlimited", more="?execution_date_gte={0}&execution_date_lte={0}".format(run["logical_date"]))
    assert [found["dag_run_id"] for found in (await read(shared, path))["dag_runs"]] == [run["dag_run_id"]]


async def test_a_paused_dag_and_one_at_its_limit_queue_and_nothing_unpauses_them(shared: Penstock, paused: str) -> None:
    made = [await triggered(shared, paused, conf={"seconds": 0.3}) for _ in range(2)]
    assert [run["state"] for run in made] == ["queued"] * 2
    await shared.client.post(runs_of(paused, made[0]["dag_run_id"], "/clear"), json={"dry_run": False})
    await shared.client.patch(runs_of(paused, made[0]["dag_run_id"]), json={"state": "queued"})
    dag = await read(shared, f"/api/v1/dags/{paused}")
    assert (dag["is_paused"], dag["max_active_runs"]) == (True, 1)
    assert [(await read(shared, runs_of(paused, run["dag_run_id"])))["state"] for run in made] == ["queued"] * 2

    await shared.client.patch(f"/api/v1/dags/{paused}", json={"is_paused": False})

    first = await ended(shared, paused, made[0]["dag_run_id"])
    second = await ended(shared, paused, made[1]["dag_run_id"])
    assert second["start_date"] >= first["end_date"]


async def test_what_executes_is_neither_deleted_nor_cleared_but_may_be_marked(shared: Penstock) -> None:
    path = runs_of("unlimited", (await triggered(shared, "unlimited", conf={"seconds": 20}))["dag_run_id"])

    async def executes() -> bool:
        return bool((await read(shared, path))["state"] == "running")

    await eventually(executes)
    deleted = await shared.client.delete(path)
    cleared = await shared.client.post(f"{path}/clear", json={"dry_run": False})
    marked = await shared.client.patch(path, json={"state": "failed"})

    assert (deleted.status_code, cleared.status_code, marked.status_code) == (409, 409, 200)
    assert deleted.json()["title"] == "Conflict"
    assert deleted.json()["detail"].endswith("executes: mark it failed first")
    assert "only a run that has ended can be run again" in cleared.json()["detail"]
    assert marked.json()["state"] == "failed"
    assert (await shared.client.delete(path)).status_code == 204


async def test_a_run_that_came_by_a_webhook_is_dated_by_when_it_was_made(shared: Penstock) -> None:
    run_id = await shared.delivered_run(await shared.hook("quick"), '{"a": 1}')
    await shared.ended(run_id)
    made = dt.datetime.fromisoformat((await read(shared, f"/v1/runs/{run_id}"))["created_at"])

    run = await read(shared, runs_of("quick", run_id))

    assert (run["dag_run_id"], run["run_type"], run["external_trigger"]) == (run_id, "manual", True)
    assert dt.datetime.fromisoformat(run["logical_date"]) == made
    dates = "?execution_date_gte={0}&execution_date_lte={0}&order_by=-execution_date".format(run["logical_date"])
    assert (await read(shared, runs_of("quick", more=dates)))["dag_runs"] == [run]
    tasks = (await read(shared, runs_of("quick", run_id, "/taskInstances")))["task_instances"]
    assert {task["execution_date"] for task in tasks} == {run["logical_date"]}


async def test_a_run_of_a_backfill_is_one_in_airflow_too(shared: Penstock) -> None:
    wanted = {
        "start": "2016-05-01T00:00:00Z",
        "end": "2016-05-02T00:00:00Z",
        "every": "day",
        "variables": {"seconds": 0},
    }
    answer = await shared.client.post("/v1/pipelines/unlimited/backfills", json=wanted)
    assert answer.status_code == 202, answer.text

    day = "?execution_date_gte=2016-05-01&execution_date_lte=2016-05-01T00:00:00Z"
    run = (await read(shared, runs_of("unlimited", more=day)))["dag_runs"][0]

    assert (run["run_type"], run["external_trigger"]) == ("backfill", False)
    assert (run["logical_date"], run["execution_date"]) == ("2016-05-01T00:00:00+00:00",) * 2
    again = await trigger(shared, "unlimited", logical_date="2016-05-01T00:00:00Z")
    assert again.status_code == 409
    assert (await ended(shared, "unlimited", run["dag_run_id"]))["state"] == "success"


async def test_a_run_that_failed_is_resumed_by_clearing_what_failed(shared: Penstock, tmp_path: Path) -> None:
    mended, name = tmp_path / "mended", f"cleared-{tmp_path.name}"
    await triggered(shared, "customer_orders_daily", dag_run_id=name, conf={"mended": str(mended)}, note="first")
    failed = await ended(shared, "customer_orders_daily", name)
    mended.touch()
    clear = "/api/v1/dags/customer_orders_daily/clearTaskInstances"

    dry = await shared.client.post(clear, json={"dag_run_id": name})
    done = await shared.client.post(clear, json={"dag_run_id": name, "dry_run": False, "reset_dag_runs": True})

    assert failed["state"] == "failed"
    assert dry.json() == done.json()
    assert "transform1" in {task["task_id"] for task in done.json()["task_instances"]}
    assert "source1" not in {task["task_id"] for task in done.json()["task_instances"]}
    run = await ended(shared, "customer_orders_daily", name)
    assert run == failed | {"state": "success"} | {
        date: run[date] for date in ("start_date", "end_date", "last_scheduling_decision")
    }


async def test_task_instances_are_filtered_and_paged(shared: Penstock, tmp_path: Path) -> None:
    name = f"shapes-{tmp_path.name}"
    await triggered(shared, "rules", dag_run_id=name)
    assert (await ended(shared, "rules", name))["state"] == "failed"
    path = runs_of("rules", name, "/taskInstances")
    everything = (await read(shared, path))["task_instances"]
    begun = [task for task in everything if task["start_date"]]

    async def found(query: str) -> tuple[list[str], int]:
        part = await read(shared, f"{path}?{query}")
        return [task["task_id"] for task in part["task_instances"]], part["total_entries"]

    ids = [task["task_id"] for task in everything]
    assert await found("limit=2&offset=1") == (ids[1:3], len(ids))
    assert sorted((await found("state=failed&state=upstream_failed"))[0]) == ["bad", "gone"]
    assert await found("pool=default_pool&queue=default") == (ids, len(ids))
    assert await found("pool=other") == ([], 0)
    assert (await found("start_date_gte=2020-01-01"))[0] == [task["task_id"] for task in begun]
    assert await found("end_date_lte=2020-01-01") == ([], 0)
    assert await found("duration_gte=1000") == ([], 0)
    assert await found("execution_date_lte=2020-01-01") == ([], 0)
    assert await found("execution_date_gte=2020-01-01") == (ids, len(ids))


async def test_a_long_log_is_read_on_with_its_token_or_at_once(shared: Penstock, tmp_path: Path) -> None:
    name = f"chatty-{tmp_path.name}"
    await triggered(shared, "chatty", dag_run_id=name, conf={"lines": 2500})
    assert (await ended(shared, "chatty", name))["state"] == "success"
    tasks = await read(shared, runs_of("chatty", name, "/taskInstances"))
    path = runs_of("chatty", name, f"/taskInstances/{tasks['task_instances'][0]['task_id']}/logs/1")

    pages = [await read(shared, path)]
    while (page := await read(shared, f"{path}?token={pages[-1]['continuation_token']}"))["content"] != (
        "[('penstock', '')]"
    ):
        pages.append(page)
    whole = await read(shared, f"{path}?full_content=true")
    text = await shared.client.get(path, headers={"accept": "text/plain"})

    lines = "".join(part for page in pages for _, part in ast.literal_eval(page["content"]))
    assert lines.count("\n") >= 2500
    assert len(pages) == 3
    assert ast.literal_eval(whole["content"]) == [("penstock", lines)]
    assert whole["continuation_token"] == pages[-1]["continuation_token"] == page["continuation_token"]
    assert text.text == f"penstock\n{lines}"


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("*/*", False),
        ("", True),
        ("application/json", True),
        ("application/json, text/plain", False),
        ("application/json, text/plain;q=0.9", True),
        ("text/*, application/json;q=0.5", False),
        ("text/plain;q=0, */*", True),
        ("text/html", True),
        ("APPLICATION/JSON;charset=utf-8", True),
        ("application/json;q=odd", True),
    ],
)
def test_a_log_has_the_form_that_the_client_would_rather_have(accept: str, is_json: bool) -> None:
    assert prefers_json(accept) is is_json


@pytest.mark.parametrize(
    "body",
    [
        '{"note": "a\\u0000b"}',
        '{"note": "\\ud800"}',
        '{"logical_date": "0001-01-01T00:00:00+14:00"}',
        '{"logical_date": "0001-01-01T00:00:00Z"}',
        '{"execution_date": "9999-12-31T23:59:59.999999Z"}',
        '{"logical_date": "9999-12-31T23:59:59-10:00"}',
        '{"conf": {"a": 1e999}}',
        '{"conf": ' + '{"a": ' * 2000 + "1" + "}" * 2000 + "}",
        "\xff",
    ],
)
async def test_an_odd_body_is_refused(body: str, shared: Penstock) -> None:
    headers = {"content-type": "application/json"}

    answer = await shared.client.post(runs_of("quick"), content=body.encode("latin-1"), headers=headers)

    assert (answer.status_code, answer.json()["title"][:3]) in ((400, "Bad"), (400, "Inc")), answer.text


@pytest.mark.parametrize("date", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59Z"])
async def test_the_first_and_the_last_date_are_dates(date: str, shared: Penstock) -> None:
    run = await triggered(shared, "unlimited", logical_date=date, conf={"seconds": 0})

    shown = date.replace("Z", "+00:00")
    assert (run["logical_date"], run["dag_run_id"]) == (shown, f"manual__{shown}")
    found = await read(shared, runs_of("unlimited", more=f"?execution_date_gte={date}&execution_date_lte={date}"))
    assert [one["dag_run_id"] for one in found["dag_runs"]] == [run["dag_run_id"]]
    widest = "?execution_date_gte=0001-01-01&execution_date_lte=9999-12-31T23:59:59.999999Z&limit=1"
    assert (await read(shared, runs_of("unlimited", more=widest)))["total_entries"] >= 1
    await ended(shared, "unlimited", run["dag_run_id"])
    assert (await shared.client.delete(runs_of("unlimited", run["dag_run_id"]))).status_code == 204
