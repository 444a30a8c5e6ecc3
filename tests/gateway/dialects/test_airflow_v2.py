"""What Airflow 3's clients rely on beside single exchanges: many at once, runs that go on, runs that begin anew."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests.system import Penstock

Json = dict[str, Any]


def runs_of(dag_id: str, run_id: str = "", more: str = "") -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns" + (f"/{run_id}" if run_id else "") + more


async def trigger(shared: Penstock, dag_id: str, **body: Any) -> httpx.Response:
    return await shared.client.post(runs_of(dag_id), json=body)


async def triggered(shared: Penstock, dag_id: str, **body: Any) -> Json:
    answer = await trigger(shared, dag_id, **body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def read(shared: Penstock, path: str) -> Any:
    answer = await shared.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def states(shared: Penstock, dag_id: str, run_id: str, *, interval: float = 60) -> AsyncIterator[str]:
    """Read the lines of `wait`."""
    path = runs_of(dag_id, run_id, f"/wait?interval={interval}")
    async with shared.client.stream("GET", path, timeout=60) as answer:
        assert "content-type" not in answer.headers
        async for line in answer.aiter_lines():
            yield json.loads(line)["state"]


@pytest.fixture
async def paused(shared: Penstock) -> AsyncIterator[str]:
    """A pipeline that is paused, and runs one run at a time."""
    await shared.client.patch("/api/v2/dags/one_at_a_time", json={"is_paused": True})
    yield "one_at_a_time"
    await shared.client.patch("/api/v2/dags/one_at_a_time", json={"is_paused": False})


async def test_triggers_of_one_moment_are_runs_of_their_own(shared: Penstock) -> None:
    made = await asyncio.gather(*(triggered(shared, "unlimited", conf={"seconds": 0}) for _ in range(30)))

    assert len({run["dag_run_id"] for run in made}) == 30


async def test_a_moment_that_was_given_names_the_run_and_the_next_one_after_it(shared: Penstock) -> None:
    wanted = {"run_after": "2019-05-06T09:08:09+02:00", "conf": {"seconds": 0}}
    made = [(await triggered(shared, "unlimited", **wanted))["dag_run_id"] for _ in range(2)]

    assert made == ["manual__2019-05-06T07:08:09.000000+00:00", "manual__2019-05-06T07:08:09.000001+00:00"]


async def test_of_simultaneous_triggers_for_one_date_one_is_a_run(shared: Penstock) -> None:
    date = "2019-02-03T04:05:06Z"
    answers = await asyncio.gather(*(trigger(shared, "unlimited", logical_date=date) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    found = await read(shared, runs_of("unlimited", more=f"?logical_date_gte={date}&logical_date_lte={date}"))
    assert found["total_entries"] == 1


async def test_a_paused_dag_and_one_at_its_limit_queue_and_nothing_unpauses_them(shared: Penstock, paused: str) -> None:
    made = [await triggered(shared, paused, conf={"seconds": 0.1}) for _ in range(3)]
    assert [run["state"] for run in made] == ["queued"] * 3
    assert (await read(shared, f"/api/v2/dags/{paused}"))["is_paused"]
    last = states(shared, paused, made[0]["dag_run_id"])
    assert await anext(last) == "queued"

    await shared.client.patch(f"/api/v2/dags/{paused}", json={"is_paused": False})

    assert [state async for state in last][-1] == "success"
    for run in made[1:]:
        assert [state async for state in states(shared, paused, run["dag_run_id"])][-1] == "success"
    first, second, third = [await read(shared, runs_of(paused, run["dag_run_id"])) for run in made]
    assert first["end_date"] <= second["start_date"]
    assert second["end_date"] <= third["start_date"]


async def test_waiting_tells_each_state_when_it_comes(shared: Penstock) -> None:
    run = await triggered(shared, "unlimited", conf={"seconds": 1.5})

    told = [state async for state in states(shared, "unlimited", run["dag_run_id"])]

    assert told[-2:] == ["running", "success"]
    assert told in (["queued", "running", "success"], ["running", "success"])


async def test_waiting_tells_again_what_has_not_changed(shared: Penstock, paused: str) -> None:
    run = await triggered(shared, paused)
    waiting = states(shared, paused, run["dag_run_id"], interval=0.05)

    assert [await anext(waiting) for _ in range(3)] == ["queued"] * 3

    await shared.client.delete(runs_of(paused, run["dag_run_id"]))
    while (state := await anext(waiting)) == "queued":
        pass
    assert state == "failed"


async def test_waiting_for_a_queued_run_that_is_deleted_ends(shared: Penstock, paused: str) -> None:
    run = await triggered(shared, paused)
    waiting = states(shared, paused, run["dag_run_id"])
    assert await anext(waiting) == "queued"

    assert (await shared.client.delete(runs_of(paused, run["dag_run_id"]))).status_code == 204

    assert [state async for state in waiting] == ["failed"]


async def test_what_executes_is_neither_deleted_nor_cleared_but_may_be_marked(shared: Penstock) -> None:
    path = runs_of("unlimited", (await triggered(shared, "unlimited", conf={"seconds": 20}))["dag_run_id"])
    waiting = states(shared, "unlimited", path.rpartition("/")[2])
    while await anext(waiting) != "running":
        pass

    growing = await read(shared, f"{path}/taskInstances/works/logs/1")
    deleted = await shared.client.delete(path)
    cleared = await shared.client.post(f"{path}/clear", json={"dry_run": False})
    marked = await shared.client.patch(path, json={"state": "failed"})

    assert (deleted.status_code, cleared.status_code, marked.status_code) == (409, 409, 200)
    assert deleted.json()["detail"].endswith("cannot be deleted in running state")
    assert "only a run that has ended can be run again" in cleared.json()["detail"]
    assert marked.json()["state"] == "failed"
    assert [state async for state in waiting] == ["failed"]
    assert growing["content"] == []
    more = await read(shared, f"{path}/taskInstances/works/logs/1?token={growing['continuation_token']}")
    assert more == {"content": [], "continuation_token": None}


async def test_a_run_that_came_by_a_webhook_has_its_id_for_a_name(shared: Penstock) -> None:
    run_id = await shared.delivered_run(await shared.hook("quick"), '{"a": 1}')
    await shared.ended(run_id)

    run = await read(shared, runs_of("quick", run_id))

    assert (run["dag_run_id"], run["run_type"], run["triggered_by"]) == (run_id, "manual", "rest_api")
    listed = await read(shared, runs_of("quick", more=f"?order_by=-id&run_id_pattern={run_id}"))
    assert listed["dag_runs"] == [run]


async def test_a_run_whose_key_fits_into_no_path_has_its_id_for_a_name(shared: Penstock, tmp_path: Path) -> None:
    key = f"a/b {tmp_path.name}"
    made = (await shared.client.post("/v1/pipelines/quick/runs", json={"run_key": key})).json()

    found = await read(shared, runs_of("quick", more=f"?run_id_pattern={quote(key)}"))

    assert [run["dag_run_id"] for run in found["dag_runs"]] == [made["id"]]
    assert (await read(shared, runs_of("quick", made["id"])))["dag_run_id"] == made["id"]


async def test_a_run_that_goes_on_elsewhere_keeps_its_name(shared: Penstock, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    name = f"orders-{tmp_path.name}"
    conf = {"mended": str(mended)}
    await triggered(
        shared, "customer_orders_daily", dag_run_id=name, conf=conf, note="first", logical_date="2018-01-01T00:00:00Z"
    )
    assert [state async for state in states(shared, "customer_orders_daily", name)][-1] == "failed"
    failed = await read(shared, runs_of("customer_orders_daily", name))
    mended.touch()
    first = (await read(shared, f"/v1/runs?q={name}"))["items"][0]

    resumed = (await shared.client.post(f"/v1/runs/{first['id']}/resume", json={"note": "second"})).json()
    await shared.ended(resumed["id"])

    run = await read(shared, runs_of("customer_orders_daily", name))
    assert run == failed | {
        "state": "success",
        "note": "second",
        **{name: run[name] for name in ("queued_at", "run_after", "start_date", "end_date", "duration")},
        "last_scheduling_decision": run["start_date"],
    }
    assert run["start_date"] > failed["end_date"]
    listed = await read(shared, runs_of("customer_orders_daily", more="?logical_date_lte=2018-01-01T00:00:00Z"))
    assert listed["dag_runs"] == [run]


async def test_what_is_deleted_leaves_nothing_but_an_entry_in_the_audit(
    shared: Penstock, shared_connection: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    name = f"steps-{tmp_path.name}"
    await triggered(shared, "steps", dag_run_id=name, conf={"seconds": 0})
    assert [state async for state in states(shared, "steps", name)][-1] == "success"
    await shared.client.post(runs_of("steps", name, "/clear"), json={"dry_run": False})
    assert [state async for state in states(shared, "steps", name)][-1] == "success"
    ids = await shared_connection.fetchval(
        "SELECT array_agg(id) FROM runs WHERE run_key = $1 OR first_id = (SELECT id FROM runs WHERE run_key = $1)", name
    )
    assert len(ids) == 2

    assert (await shared.client.delete(runs_of("steps", name))).status_code == 204

    for table in ("block_runs", "block_outputs", "logs", "callbacks", "signals"):
        left = await shared_connection.fetchval(f"SELECT count(*) FROM {table} WHERE run_id = ANY ($1)", ids)
        assert left == 0, table
    entries = (await read(shared, "/v1/audit?action=run.delete"))["items"]
    assert sorted(entries[0]["details"]["runs"]) == sorted(map(str, ids))


async def test_task_instances_are_sorted_filtered_and_paged(shared: Penstock, tmp_path: Path) -> None:
    name = f"shapes-{tmp_path.name}"
    await triggered(shared, "rules", dag_run_id=name)
    assert [state async for state in states(shared, "rules", name)][-1] == "failed"
    path = runs_of("rules", name, "/taskInstances")

    found = await read(shared, f"{path}?order_by=-state&order_by=task_id&limit=3&offset=1")
    failed = await read(shared, f"{path}?state=failed&state=upstream_failed")

    assert [(task["task_id"], task["state"]) for task in found["task_instances"]] == [
        ("alarm", "success"),
        ("cleanup", "success"),
        ("good", "success"),
    ]
    assert found["total_entries"] == 6
    assert {(task["task_id"], task["state"]) for task in failed["task_instances"]} == {
        ("bad", "failed"),
        ("gone", "upstream_failed"),
    }
    for wrong in ("?order_by=pid", "?pool=x", "?cursor="):
        assert (await shared.client.get(path + wrong)).status_code == 400
    assert (await shared.client.get(runs_of("rules", "~", "/taskInstances"))).status_code == 400


async def test_a_long_log_is_read_on_with_its_token_or_at_once(shared: Penstock, tmp_path: Path) -> None:
    name = f"chatty-{tmp_path.name}"
    await triggered(shared, "chatty", dag_run_id=name, conf={"lines": 2500})
    assert [state async for state in states(shared, "chatty", name)][-1] == "success"
    tasks = await read(shared, runs_of("chatty", name, "/taskInstances"))
    path = runs_of("chatty", name, f"/taskInstances/{tasks['task_instances'][0]['task_id']}/logs/1")

    pages = [await read(shared, path)]
    while token := pages[-1]["continuation_token"]:
        pages.append(await read(shared, f"{path}?token={token}"))
    whole = await read(shared, f"{path}?full_content=true")
    lines = await shared.client.get(path, headers={"accept": "application/x-ndjson"})

    content = [line for page in pages for line in page["content"]]
    assert len(content) >= 2500
    assert len(pages) == 3
    assert whole == {"content": content, "continuation_token": None}
    assert [json.loads(line) for line in lines.text.splitlines()] == content
