"""What Brokoli's document on its Runs API shows, sent as shown; its webhooks; and where its words and ours differ."""

import datetime as dt
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.dialects.brokoli import messages, wire
from gateway.embedded import EmbeddedServers
from schemas.dry_runs import DryBlock, DryResult
from schemas.states import BlockState, RunState
from tests.conftest import new_database
from tests.golden import Stage
from tests.house.code import ROOT
from tests.system import KEY, Json, Penstock

PIPELINE = "/api/pipelines/pipeline-xyz"
TOKEN = "whk_0123456789abcdef0123456789abcdef0123456789abcdef"
NODE = {"attempt": 0, "duration_ms": "<int>", "queue_ms": "<int>", "rows_per_sec": "<number>", "started_at": "<time>"}


@pytest.fixture(scope="module")
async def brokoli(
    servers: EmbeddedServers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Penstock]:
    """A Penstock with the pipelines of Brokoli's documents."""
    async with Penstock(
        database_url=await new_database(servers, "brokoli", template),
        redis_url=servers.redis_url,
        directory=tmp_path_factory.mktemp("brokoli"),
        pipelines=ROOT / "tests" / "fixtures" / "dialects" / "brokoli" / "pipelines",
    ) as system:
        await system.start()
        yield system


@pytest.fixture
def stage(brokoli: Penstock) -> Stage:
    return Stage(brokoli)


async def ask(brokoli: Penstock, method: str, path: str, status: int = 200, **more: Any) -> Any:
    answer = await brokoli.client.request(method, path, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


async def run_to_its_end(brokoli: Penstock, pipeline_id: str = "pipeline-xyz", **params: Any) -> Json:
    started = await ask(brokoli, "POST", f"/api/pipelines/{pipeline_id}/run", 202, json={"params": params})
    await brokoli.ended(started["id"])
    found: Json = await ask(brokoli, "GET", f"/api/runs/{started['id']}")
    return found


# Each request of the document, with the key in one of the two headers that Brokoli has for it


async def test_a_run_is_triggered_and_followed(brokoli: Penstock, stage: Stage) -> None:
    headers = {"authorization": "", "x-api-key": KEY}
    started = await ask(
        brokoli, "POST", f"{PIPELINE}/run", 202, json={"params": {"date": "2024-01-15"}}, headers=headers
    )
    assert stage.differences({"id": "<uuid:run>", "pipeline_id": "pipeline-xyz", "status": "pending"}, started) == []
    await brokoli.ended(started["id"])

    shown = await ask(brokoli, "GET", f"/api/runs/{started['id']}")

    nodes = [("source1", 60), ("transform1", 40), ("count", 0)]
    wanted = {
        "id": "{run}",
        "pipeline_id": "pipeline-xyz",
        "status": "success",
        "params": {"date": "2024-01-15"},
        "started_at": "<time>",
        "finished_at": "<time>",
        "node_runs": [
            {
                "id": f"{{run}}:{name}",
                "run_id": "{run}",
                "node_id": name,
                "status": "success",
                "row_count": rows,
                **NODE,
            }
            for name, rows in nodes
        ],
    }
    assert stage.differences(wanted, shown) == []
    assert shown["started_at"].endswith("Z")


async def test_the_runs_of_a_pipeline_are_the_newest_fifty_or_a_page(brokoli: Penstock) -> None:
    newest = [(await run_to_its_end(brokoli, date=f"2024-03-0{day}"))["id"] for day in (1, 2, 3)][::-1]

    listed = await ask(brokoli, "GET", f"{PIPELINE}/runs")
    page = await ask(brokoli, "GET", f"{PIPELINE}/runs?page=1&per_page=20")
    second = await ask(brokoli, "GET", f"{PIPELINE}/runs?page=2&page_size=1")

    assert [run["id"] for run in listed[:3]] == newest
    assert all(run["node_runs"] is None for run in listed)
    assert page == {"items": listed, "total": len(listed), "page": 1, "per_page": 20, "page_size": 20, "pages": 1}
    assert [run["id"] for run in second.pop("items")] == newest[1:2]
    assert second == {"total": len(listed), "page": 2, "per_page": 1, "page_size": 1, "pages": len(listed)}


async def test_a_run_is_cancelled(brokoli: Penstock) -> None:
    await brokoli.client.patch("/v1/pipelines/waiting", json={"is_paused": True})
    started = await ask(brokoli, "POST", "/api/pipelines/waiting/run", 202)

    assert await ask(brokoli, "POST", f"/api/runs/{started['id']}/cancel") == {"status": "cancelled"}

    await brokoli.client.patch("/v1/pipelines/waiting", json={"is_paused": False})
    shown = await ask(brokoli, "GET", f"/api/runs/{started['id']}")
    assert (shown["status"], shown["started_at"]) == ("cancelled", None)
    assert (await ask(brokoli, "POST", f"/api/runs/{started['id']}/cancel", 404))["error"] == (
        f"run {started['id']} not found or already completed"
    )
    resumed = await ask(brokoli, "POST", f"/api/runs/{started['id']}/resume", 400)
    assert resumed == {"error": "can only resume failed runs (current: cancelled)"}


async def test_a_failed_run_is_resumed_from_its_first_failed_node(brokoli: Penstock, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    failed = await run_to_its_end(brokoli, "broken", mended=str(mended))
    assert [node["status"] for node in failed["node_runs"]] == ["success", "failed", "skipped"]
    assert failed["error"] == failed["node_runs"][1]["error"] == "the database is away"
    mended.touch()

    resumed = await ask(brokoli, "POST", f"/api/runs/{failed['id']}/resume", 202)

    assert resumed["id"] != failed["id"]
    await brokoli.ended(resumed["id"])
    shown = await ask(brokoli, "GET", f"/api/runs/{resumed['id']}")
    assert [node["status"] for node in shown["node_runs"]] == ["success"] * 3
    assert shown["node_runs"][0]["started_at"] == failed["node_runs"][0]["started_at"]  # it was not executed again


async def test_logs_are_read_and_exported(brokoli: Penstock, stage: Stage) -> None:
    run = (await run_to_its_end(brokoli))["id"]
    base = {"run_id": run, "node_id": "source1", "timestamp": "<time>"}
    starting = base | {"level": "info", "message": "Starting node: Fetch Users (source_api)"}
    starting |= {"metadata": {"date": "2024-01-01"}}
    warning = base | {"level": "warning", "message": "one of them has no name"}
    logs = f"/api/runs/{run}/logs"

    assert stage.differences([starting, warning], await ask(brokoli, "GET", logs)) == []
    assert stage.differences([starting], await ask(brokoli, "GET", f"{logs}?level=info")) == []
    assert await ask(brokoli, "GET", f"{logs}?node_id=count") == []
    export = await brokoli.client.get(f"{logs}/export")
    assert export.headers["content-disposition"] == f"attachment; filename=run-{run[:8]}-logs.txt"
    assert (
        stage.differences(
            '<time> [info] [source1] Starting node: Fetch Users (source_api) {"date":"2024-01-01"}\n'
            "<time> [warning] [source1] one of them has no name\n",
            export.text,
        )
        == []
    )


async def test_a_node_is_previewed_and_profiled(brokoli: Penstock) -> None:
    run = (await run_to_its_end(brokoli))["id"]
    preview = await ask(brokoli, "GET", f"/api/runs/{run}/nodes/source1/preview")
    assert (preview.keys(), preview["columns"], len(preview["rows"])) == (
        {"columns", "rows"},
        ["id", "name", "email"],
        50,
    )
    assert preview["rows"][0] == {"id": 1, "name": "Alice", "email": "alice@example.com"}

    profile = await ask(brokoli, "GET", f"/api/runs/{run}/nodes/source1/profile")

    assert profile.keys() == {"profile", "schema", "drift"}
    assert profile["profile"]["columns"][1] == {
        "name": "name",
        "type": "String",
        "null_count": 20,
        "null_pct": 33.33,
        "unique_count": 2,
        "unique_pct": 3.33,
        "min_val": "Alice",
        "max_val": "Bob",
        "is_numeric": False,
        "sample_values": ["Alice", "Bob"],
    }
    assert profile["schema"]["columns"][1] == {"name": "name", "type": "String", "null_pct": 33.33}


async def test_a_dry_run_shows_each_node_to_both_kinds_of_clients(brokoli: Penstock) -> None:
    before = await ask(brokoli, "GET", f"{PIPELINE}/runs")

    found = await ask(brokoli, "POST", f"{PIPELINE}/dry-run")

    rows = found["source1"].pop("rows")
    assert found["source1"] == {
        "node_id": "source1",
        "name": "Fetch Users",
        "status": "success",
        "columns": ["id", "name", "email"],
    }
    assert (len(rows), rows[0]) == (10, {"id": 1, "name": "Alice", "email": "alice@example.com"})
    assert found["results"].pop("source1")["rows"] == rows
    assert found["results"] == {name: found[name] for name in ("transform1", "count")}
    assert await ask(brokoli, "GET", f"{PIPELINE}/runs") == before


async def test_a_backfill_answers_with_its_runs_in_the_order_of_their_dates(brokoli: Penstock) -> None:
    wanted = {"start_date": "2024-01-01", "end_date": "2024-01-31"}
    first, again = [await ask(brokoli, "POST", f"{PIPELINE}/backfill", 202, json=wanted) for _ in range(2)]

    assert (len(first), len({*first, *again})) == (31, 62)
    runs = [await ask(brokoli, "GET", f"/api/runs/{run_id}") for run_id in (first[0], first[30])]
    assert [run["params"] for run in runs] == [{"date": "2024-01-01"}, {"date": "2024-01-31"}]


async def test_overviews_have_each_member_of_the_document(brokoli: Penstock) -> None:
    await run_to_its_end(brokoli, "broken")
    schedule = await brokoli.schedule("broken", kind="time", every_s=86_400)

    days = await ask(brokoli, "GET", "/api/runs/calendar")
    assert (len(days), days[-1].keys()) == (90, {"date", "total", "success", "failed", "running"})
    assert len(await ask(brokoli, "GET", "/api/runs/calendar?days=1000")) == 365
    assert {"from": "proc:pipeline-xyz:source1", "to": "table:users", "pipeline_id": "pipeline-xyz",
            "pipeline": "pipeline-xyz"} in (await ask(brokoli, "GET", "/api/lineage"))["edges"]  # fmt: skip
    (entry,) = await ask(brokoli, "GET", "/api/scheduler/status")
    assert entry.pop("next_run") > dt.datetime.now(dt.UTC).isoformat()[:19]
    assert entry == {"pipeline_id": "broken", "pipeline_name": "broken", "schedule": "@every 86400s", "enabled": True}
    await brokoli.client.delete(f"/v1/schedules/{schedule['id']}")
    dashboard = await ask(brokoli, "GET", "/api/dashboard")
    assert {"pipelines", "recent_runs", "trends", "top_failing"} <= dashboard.keys()
    assert (len(dashboard["trends"]), dashboard["trends"][0].keys()) == (7, {"date", "success", "failed", "total"})
    assert dashboard["top_failing"][0].keys() == {"pipeline_id", "name", "fail_count"}
    assert dashboard["top_failing"][0]["pipeline_id"] == "broken"
    hits = await ask(brokoli, "GET", "/api/search?q=users&limit=30")
    assert hits[0].keys() == {"type", "id", "name", "description", "meta"}
    system = await ask(brokoli, "GET", "/api/system/info")
    assert system.keys() == {"version", "db_size", "db_size_mb", "pipelines", "active_runs", "max_concurrent_runs"}
    assert system["db_size_mb"] == f"{system['db_size'] / 2**20:.2f} MB"
    assert await ask(brokoli, "POST", "/api/system/purge", 202, json={"days": 30}) == {"deleted": 0, "days": 30}


# Webhooks


async def test_a_webhook_url_that_senders_have_goes_on_working_with_its_token_imported(brokoli: Penstock) -> None:
    schedule = await brokoli.schedule("waiting")
    imported = {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    await ask(brokoli, "POST", f"/v1/schedules/{schedule['id']}/tokens/imported", 201, json=imported)
    path = "/api/pipelines/waiting/webhook"

    headers = {"authorization": "", "referer": f"https://old.example{path}?token={TOKEN}"}
    taken = await ask(brokoli, "POST", f"{path}?token={TOKEN}&ref=main", 202, json={"n": 1}, headers=headers)

    run = await brokoli.ended(taken["run_id"])
    assert (taken, run["event_variables"]) == ({"run_id": run["id"], "status": "pending"}, {"n": 1})
    event = (await brokoli.client.get(f"/v1/events/{run['event_id']}")).text
    assert TOKEN not in event
    assert all(TOKEN not in process.log for process in brokoli.processes)


async def test_a_stranger_without_the_token_learns_nothing_and_starves_nobody(brokoli: Penstock) -> None:
    token = (await brokoli.hook("waiting")).rpartition("/")[2]
    answers = set()
    for path, headers in (
        ("waiting/webhook", {}),
        ("waiting/webhook", {"x-webhook-token": "x"}),
        ("waiting/webhook", {"x-webhook-token": TOKEN[:-1] + "0"}),
        ("pipeline-xyz/webhook", {"x-webhook-token": token}),
        ("nothing/webhook", {"x-webhook-token": token}),
        ("waiting/webhook?token=" + token[:-1], {}),
    ):
        answer = await brokoli.client.post(f"/api/pipelines/{path}", headers={"authorization": "", **headers})
        answers.add((answer.status_code, answer.content))

    taken = [
        await ask(brokoli, "POST", "/api/pipelines/waiting/webhook", 202, headers={"x-webhook-token": token})
        for _ in range(3)
    ]

    assert answers == {(404, b'{"error":"pipeline not found","detail":"There is no such hook."}')}
    assert len({one["run_id"] for one in taken}) == 3


async def test_a_delivery_that_becomes_no_run_says_why(brokoli: Penstock) -> None:
    token = (await brokoli.hook("waiting", filter="body.n > 1")).rpartition("/")[2]
    path = f"/api/pipelines/waiting/webhook?token={token}"

    ignored = await ask(brokoli, "POST", path, 200, json={"n": 1})

    assert (ignored["run_id"], ignored["status"]) == (None, "ignored")
    assert ignored["reason"]


# What could go wrong


async def test_no_request_is_answered_with_500(brokoli: Penstock) -> None:
    run = (await run_to_its_end(brokoli))["id"]
    odd = ["%00", "%ff", "%ED%A0%80", "%2e%2e", "x" * 5000, "%F0%9F%92%A9", "-1", "99999999999999999999999999"]
    reads = [
        path.replace("{}", one)
        for one in odd
        for path in (
            "/api/runs/{}", "/api/runs/{}/logs", "/api/runs/{}/logs/export", f"/api/runs/{run}/nodes/{{}}/preview",
            f"/api/runs/{run}/nodes/{{}}/profile", f"/api/runs/{run}/logs?node_id={{}}", "/api/pipelines/{}",
            "/api/pipelines/{}/runs", f"{PIPELINE}/runs?page={{}}&per_page={{}}", "/api/pipelines/{}/node-stats",
            "/api/runs/calendar?days={}", "/api/search?q={}", "/api/pipelines/{}/deps", "/api/ws?since={}",
        )
    ]  # fmt: skip
    bodies = ["[1]", "null", "[" * 9000, "\xff", "", '{"days": 1e9}', '{"params": {"\\u0000": "\\ud800"}}', '{"a":']
    bodies += ['{"start_date": "0000-00-00", "end_date": "\\u0000"}', '{"start_date": 5}', '{"params": {"date": 5}}']
    writes = [f"{PIPELINE}/run", f"{PIPELINE}/dry-run", f"{PIPELINE}/backfill", f"/api/runs/{run}/cancel"]
    writes += [f"/api/runs/{run}/resume", "/api/system/purge", f"{PIPELINE}/webhook?token={TOKEN}"]
    answers = [await brokoli.client.get(path) for path in reads]
    answers += [await brokoli.client.post(path, content=body.encode("latin-1")) for path in writes for body in bodies]

    assert {answer.status_code for answer in answers} <= {200, 202, 400, 404, 405, 414, 431}
    ours = "%00", "x" * 5000  # what the front door refuses, which knows no dialect
    wrong = [a for a in answers if a.status_code >= 400 and not any(odd in str(a.url) for odd in ours)]
    assert not [answer.url for answer in wrong if not isinstance(answer.json().get("error"), str)]


async def test_a_long_log_is_one_array(shared: Penstock) -> None:
    started = await ask(shared, "POST", "/api/pipelines/chatty/run", 202, json={"params": {"lines": 1203}})
    await shared.ended(started["id"])

    lines = await ask(shared, "GET", f"/api/runs/{started['id']}/logs")

    assert [line["message"] for line in lines] == [f"line {number}" for number in range(1203)]


async def test_a_mapped_block_is_one_node(shared: Penstock) -> None:
    started = await ask(shared, "POST", "/api/pipelines/mapped/run", 202)
    await shared.ended(started["id"])

    nodes = (await ask(shared, "GET", f"/api/runs/{started['id']}"))["node_runs"]

    assert len({node["node_id"] for node in nodes}) == len(nodes)


def test_each_state_of_ours_has_a_word_of_brokolis() -> None:
    assert set(wire.RUN_STATUS) == set(RunState)
    assert set(wire.NODE_STATUS) == set(messages._NODE_TYPES) == set(BlockState)
    assert set(messages._RUN_TYPES) == set(RunState) - {RunState.QUEUED}


def test_a_node_that_is_called_like_a_member_of_the_answer_is_in_the_results() -> None:
    blocks = {name: DryBlock(block_id=name, state=BlockState.SUCCESS, value=1) for name in ("results", "error", "ok")}
    dry = DryResult(pipeline_id="odd", state=RunState.FAILED, blocks=blocks)

    shown = wire.show_dry_run(dry, {})

    assert shown.keys() == {"ok", "error", "results"}
    assert shown["results"].keys() == blocks.keys()
    assert shown["error"] == "failed"
