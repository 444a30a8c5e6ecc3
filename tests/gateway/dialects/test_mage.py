"""What Mage's page on pipeline runs shows, sent as shown; tokens that come from Mage; and who may do what to whom."""

import asyncio
import datetime as dt
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.credentials import digest
from gateway.embedded import EmbeddedServers
from tests.faults import Connection
from tests.house.code import ROOT
from tests.system import KEY, Json, Penstock
from tests.waiting import eventually

FOREIGN = "260385a38d62466fb1c88fa8c5ca503f"
PIPELINES = ROOT / "tests" / "fixtures" / "dialects" / "mage" / "pipelines"
MAGES_KEY = "zkWlN0PkIKSN0C11CfUHUj84OT5XOJ6tDZ6bDRO2"
HOSTILE = [
    b"",
    b"null",
    b"5",
    b'"x"',
    b"[1]",
    b"[" * 9000,
    b'{"a":' * 9000,
    b"\xff\xfe",
    b"\x00",
    b"{",
    b'{"pipeline_run": null}',
    b'{"pipeline_run": []}',
    b'{"pipeline_run": {"variables": null}}',
    b'{"pipeline_run": {"variables": {"a": 1e400}}}',
    b'{"pipeline_run": {"variables": {"a": "\\ud800"}}}',
    b'{"pipeline_run": {"variables": {"a\\u0000": "\\u0000"}}}',
    b'{"pipeline_run": {"variables": {"a": "\xff"}}}',
    b'{"pipeline_run": {"status": "completed"}}',
    b'{"pipeline_run": {"event_variables": {"a": 1e400}}}',
    b'{"pipeline_run": {}, "pipeline_run": {"variables": {"b": 2}}, "n": 1e400}',
    b'{"pipeline_run": {"variables": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}}",
    b'{"run": 5}',
    b'{"run": {"block_uuid": "\\u0000"}}',
    b'{"pipeline_schedule": {"name": "\\u0000"}}',
    b'{"pipeline_schedule": {"name": "x", "settings": {"timeout": -1}}}',
    b'{"pipeline_schedule": {"name": "x", "sla": 99999999999999999999}}',
    b'{"pipeline_schedule": {"name": "x", "schedule_type": "event"}}',
    b'{"pipeline_schedule": {"name": "x", "schedule_type": "time", "start_time": "soon"}}',
    b'{"session": {"password": "\\ud800"}}',
    b'{"session": {"password": 5}}',
]


def penstock_over(servers: EmbeddedServers, database_url: str, directory: Path, **settings: object) -> Penstock:
    return Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=directory, pipelines=PIPELINES, **settings
    )


@pytest.fixture
async def mage(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with penstock_over(servers, database_url, tmp_path) as system:
        await system.start()
        yield system


async def trigger_of(mage: Penstock, pipeline_id: str = "noop", **fields: object) -> tuple[str, str]:
    """Make a schedule of type api as a client of Mage does; returns its trigger's URL and its token."""
    asked = {"name": "late forest", "schedule_type": "api", "status": "active"} | fields
    answer = await mage.client.post(
        f"/api/pipelines/{pipeline_id}/pipeline_schedules", json={"pipeline_schedule": asked}
    )
    assert answer.status_code == 200, answer.text
    made = answer.json()["pipeline_schedule"]
    return f"{mage.url}/api/pipeline_schedules/{made['id']}/pipeline_runs/{made['token']}", made["token"]


async def import_token(mage: Penstock, schedule: object, token: str = FOREIGN) -> httpx.Response:
    return await mage.client.post(f"/v1/schedules/{schedule}/tokens/imported", json={"sha256": digest(token).hex()})


def number_in(url: str) -> str:
    return url.split("/")[5]


async def test_the_requests_of_the_page_are_answered_as_the_page_says(mage: Penstock) -> None:
    url, _ = await trigger_of(mage, "example_pipeline")
    triggered = await mage.deliver(
        url, b'{\n"env": "dev",\n"test": 1\n}', content_type="application/x-www-form-urlencoded"
    )
    run = triggered.json()["pipeline_run"]
    assert triggered.status_code == 200
    assert run.keys() >= {
        *("id", "created_at", "updated_at", "pipeline_schedule_id", "pipeline_uuid", "execution_date", "status"),
        *("completed_at", "variables", "passed_sla", "event_variables", "metrics", "backfill_id"),
    }
    assert (run["event_variables"], run["status"]) == ({"env": "dev", "test": 1}, "initial")

    async def completed() -> Json | None:
        answer = await mage.client.get(
            f"/api/pipeline_schedules/{number_in(url)}/pipeline_runs",
            params={"api_key": MAGES_KEY},
            headers={"authorization": f"Bearer {KEY}"},
        )
        listed = answer.json()
        assert listed["metadata"] == {"count": 1, "next": False}
        [found] = listed["pipeline_runs"]
        return found if found["status"] == "completed" else None

    found = await eventually(completed, timeout=20)
    assert found.keys() >= {"block_runs", "block_runs_count", "pipeline_schedule_name", "pipeline_schedule_token"}
    assert [block["block_uuid"] for block in found["block_runs"]] == ["load_titanic", "export_titanic"]
    assert (found["block_runs_count"], found["pipeline_schedule_name"]) == (2, "late forest")
    times = [found[name] for name in ("created_at", "started_at", "completed_at")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00", time) for time in times)
    assert times == sorted(times)


async def test_a_run_gets_the_variables_of_schedule_and_caller_and_the_rest_as_event_variables(mage: Penstock) -> None:
    url, _ = await trigger_of(mage, variables={"region": "us", "env": "prod"})
    answer = await mage.deliver(url, b'{"pipeline_run": {"variables": {"env": "staging"}}, "ref": "main", "n": 1e400}')
    shown = answer.json()["pipeline_run"]
    run = await mage.ended((await mage.client.get(f"/v1/runs/{shown['id']}")).json()["id"])
    partition = shown["variables"].pop("execution_partition")
    executed = dt.datetime.fromisoformat(shown["execution_date"])

    assert shown["variables"] == run["variables"] == {"region": "us", "env": "staging"}
    assert answer.text.count('{"ref":"main","n":1e400}') == 1
    assert partition == f"{number_in(url)}/{executed:%Y%m%dT%H%M%S_%f}"
    output = await mage.client.get(f"/v1/runs/{run['id']}/blocks/only/output")
    assert output.json()["event_variables"]["ref"] == "main"
    event = (await mage.client.get(f"/v1/events/{run['event_id']}/body")).text
    assert event.startswith('{"pipeline_run"')  # the event keeps every byte


async def test_what_the_owner_maps_wins_over_what_the_caller_sets(mage: Penstock) -> None:
    schedule = await mage.schedule("noop", mapping={"who": "body.pipeline_run.variables.who + '!'"})
    token = (await mage.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()["token"]
    url = f"{mage.url}/api/pipeline_schedules/{schedule['id']}/pipeline_runs/{token}"

    answer = await mage.deliver(url, b'{"pipeline_run": {"variables": {"who": "me", "what": 1}}}')

    shown = answer.json()["pipeline_run"]["variables"]
    assert (shown["who"], shown["what"]) == ("me!", 1)


async def test_variables_that_the_pipeline_does_not_take_are_refused_and_filtered_deliveries_are_not(
    mage: Penstock,
) -> None:
    url, _ = await trigger_of(mage, "picky")
    wrong = await mage.deliver(url, b'{"pipeline_run": {"variables": {"zone": 1}}}')
    right = await mage.deliver(url, b'{"pipeline_run": {"variables": {"region": "us"}}}')
    await mage.client.patch(f"/v1/schedules/{number_in(url)}", json={"filter": "has(body.wanted)"})
    filtered = await mage.deliver(url, b"{}")

    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "record_invalid")
    assert "zone" in wrong.json()["error"]["message"]
    assert right.json()["pipeline_run"]["variables"]["region"] == "us"
    assert (filtered.status_code, filtered.json()) == (
        200,
        {"pipeline_run": None, "status": "ignored", "reason": "The filter is false."},
    )
    verdicts = [event["verdict"] for event in (await mage.client.get("/v1/events")).json()["items"]]
    assert verdicts == ["filtered", "accepted", "rejected"]


async def test_a_hundred_copies_of_one_delivery_make_one_run_and_one_answer(
    mage: Penstock, connection: Connection
) -> None:
    url, _ = await trigger_of(mage)
    body = b'{"pipeline_run": {"variables": {"a": 1}}, "b": 2}'

    answers = await asyncio.gather(*(mage.deliver(url, body, idempotency_key="the-one") for _ in range(100)))

    runs = [answer.json()["pipeline_run"] for answer in answers]
    assert Counter(answer.status_code for answer in answers) == {200: 100}
    assert len({run["id"] for run in runs}) == 1
    assert {msgspec.json.encode([run["variables"], run["event_variables"]]) for run in runs} == {
        msgspec.json.encode([runs[0]["variables"], {"b": 2}])
    }
    assert await connection.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_sender_that_signs_must_sign_here_too(mage: Penstock) -> None:
    schedule = await mage.schedule("noop", source="github", source_config={"secrets": ["hush"]})
    token = (await mage.client.post(f"/v1/schedules/{schedule['id']}/tokens")).json()["token"]
    path = f"/api/pipeline_schedules/{schedule['number']}"

    by_token = await mage.deliver(f"{mage.url}{path}/pipeline_runs/{token}")
    by_key = await mage.client.post(f"{path}/pipeline_runs", json={"pipeline_run": {}})

    for answer in (by_token, by_key):
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)
    assert (await mage.client.get("/v1/runs")).json()["items"] == []


async def test_a_paused_schedule_queues_and_stays_paused(mage: Penstock) -> None:
    url, _ = await trigger_of(mage, status="inactive")

    answer = await mage.deliver(url)

    schedule = (await mage.client.get(f"/api/pipeline_schedules/{number_in(url)}")).json()["pipeline_schedule"]
    run = (await mage.client.get(f"/v1/runs/{answer.json()['pipeline_run']['id']}")).json()
    assert (answer.status_code, schedule["status"], run["state"]) == (200, "inactive", "queued")


async def test_urls_with_a_token_of_mage_go_on_working(mage: Penstock) -> None:
    schedule = await mage.schedule("noop")
    other = await mage.schedule("noop")
    first, again, elsewhere = [await import_token(mage, each["id"]) for each in (schedule, schedule, other)]
    bearer = {"authorization": f"Bearer {FOREIGN}"}
    api = f"{mage.url}/api/pipeline_schedules"

    by_url = await mage.deliver(f"{api}/71/pipeline_runs/{FOREIGN}")  # 71 is what Mage called it
    by_bearer = await mage.deliver(f"{api}/71/api_trigger", **bearer)
    by_hook = await mage.deliver(f"{mage.url}/hooks/{schedule['number']}/{FOREIGN}")
    by_other_hook = await mage.deliver(f"{mage.url}/hooks/{other['number']}/{FOREIGN}")
    unknown = await mage.deliver(f"{api}/{schedule['number']}/pipeline_runs/{FOREIGN[::-1]}")
    weak = await mage.client.post(f"/v1/schedules/{schedule['id']}/tokens/imported", json={"sha256": "5"})

    assert [answer.status_code for answer in (first, again, elsewhere, weak)] == [201, 201, 409, 422]
    assert first.json() == again.json()
    assert [answer.status_code for answer in (by_url, by_bearer, by_hook)] == [200, 200, 202]
    assert {answer.json()["pipeline_run"]["pipeline_schedule_id"] for answer in (by_url, by_bearer)} == {
        schedule["number"]
    }
    assert [answer.status_code for answer in (by_other_hook, unknown)] == [404, 404]

    await mage.client.delete(f"/v1/tokens/{first.json()['id']}")

    async def has_ended() -> bool:
        return (await mage.deliver(f"{api}/71/pipeline_runs/{FOREIGN}")).status_code == 404

    await eventually(has_ended)
    assert (await import_token(mage, schedule["id"])).status_code == 409  # what was revoked is not revived


async def test_a_retry_goes_on_from_the_block_that_is_named(mage: Penstock) -> None:
    url, _ = await trigger_of(mage, "picky")
    started = await mage.deliver(url, b'{"pipeline_run": {"variables": {"fails": true}}}')
    number = started.json()["pipeline_run"]["id"]
    failed = await mage.ended((await mage.client.get(f"/v1/runs/{number}")).json()["id"])

    async def retry(run: int, **asked: str) -> tuple[int, Any]:
        body = {"pipeline_run": {"pipeline_run_action": "retry_blocks", **asked}}
        answer = await mage.client.put(f"/api/pipeline_runs/{run}", json=body)
        return answer.status_code, answer.json()

    status, resumed = await retry(number)
    again = await mage.ended((await mage.client.get(f"/v1/runs/{resumed['pipeline_run']['id']}")).json()["id"])
    _, unknown = await retry(number, from_block_uuid="nothing")
    _, anew = await retry(again["number"], from_block_uuid="load")
    from_load = await mage.ended((await mage.client.get(f"/v1/runs/{anew['pipeline_run']['id']}")).json()["id"])

    assert (failed["state"], status, again["origin"], again["state"]) == ("failed", 200, "resume", "failed")
    assert begun_anew(failed, again) == {"check"}
    assert begun_anew(again, from_load) == {"load", "check"}
    assert unknown["error"]["message"] == f"/from_block: run {number} has no block 'nothing'"


def begun_anew(old: Json, new: Json) -> set[str]:
    before = {block["block_id"]: block["started_at"] for block in old["block_runs"]}
    return {block["block_id"] for block in new["block_runs"] if block["started_at"] != before[block["block_id"]]}


async def test_a_success_is_retried_from_a_block_or_whole(mage: Penstock) -> None:
    url, _ = await trigger_of(mage, "picky")
    number = (await mage.deliver(url)).json()["pipeline_run"]["id"]
    old = await mage.ended((await mage.client.get(f"/v1/runs/{number}")).json()["id"])

    async def retried(**asked: str) -> Json:
        body = {"pipeline_run": {"pipeline_run_action": "retry_blocks", **asked}}
        new = (await mage.client.put(f"/api/pipeline_runs/{number}", json=body)).json()["pipeline_run"]
        return await mage.ended((await mage.client.get(f"/v1/runs/{new['id']}")).json()["id"])

    from_check, whole = await retried(from_block_uuid="check"), await retried()

    assert (from_check["origin"], begun_anew(old, from_check)) == ("resume", {"check"})
    assert (whole["origin"], begun_anew(old, whole)) == ("rerun", {"load", "check", "aside"})


async def test_a_block_is_run_only_where_that_runs_the_pipeline(mage: Penstock) -> None:
    _, token = await trigger_of(mage, "picky")
    answer = await mage.deliver(
        f"{mage.url}/api/runs", b'{"run": {"block_uuid": "check"}}', authorization=f"Bearer {token}"
    )

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "record_invalid")
    assert "not all other blocks come before 'check'" in answer.json()["error"]["message"]
    assert (await mage.client.get("/v1/runs")).json()["items"] == []


async def test_where_old_callers_want_it_what_they_do_wrong_is_answered_with_200(
    servers: EmbeddedServers, database_url: str, tmp_path: Path
) -> None:
    async with penstock_over(servers, database_url, tmp_path, mage_legacy_200="true", body_limit=200) as mage:
        await mage.start()
        url, _ = await trigger_of(mage)
        wrong = await mage.deliver(url.rpartition("/")[0] + "/deadbeefdeadbeefdeadbeefdeadbeef")
        large = await mage.deliver(url, b"x" * 201)
        unknown = await mage.client.get("/api/pipeline_runs/999999")
        nobody = await mage.client.get("/api/pipeline_runs", headers={"authorization": ""})
        method = await mage.client.patch("/api/pipeline_runs/5")
        ours = await mage.client.get("/v1/runs/999999")

        assert [answer.status_code for answer in (wrong, large, unknown)] == [200, 200, 200]
        assert (wrong.json()["error"]["code"], large.json()["error"]["code"]) == (404, 413)
        assert unknown.json() == {
            "error": {"code": 404, "message": "There is no run 999999.", "type": "record_not_found"},
            "status": 200,
        }
        assert nobody.json()["status"] == 200
        assert [answer.status_code for answer in (nobody, method, ours)] == [401, 405, 404]


async def test_no_body_is_answered_with_500(mage: Penstock) -> None:
    url, token = await trigger_of(mage)
    schedule = f"/api/pipeline_schedules/{number_in(url)}"
    statuses = Counter[tuple[str, int]]()
    bearer = {"authorization": f"Bearer {token}"}
    calls = (
        ("POST", url, {"authorization": ""}),
        ("POST", f"{schedule}/api_trigger", bearer),
        ("POST", "/api/events", bearer),
        ("POST", "/api/sessions", {}),
        ("POST", f"{schedule}/pipeline_runs", {}),
        ("PUT", "/api/pipeline_runs/1", {}),
        ("PUT", schedule, {}),
        ("POST", "/api/pipelines/noop/pipeline_schedules", {}),
    )
    for body in HOSTILE:
        for method, path, headers in calls:
            answer = await mage.client.request(method, path, content=body, headers=headers)
            statuses[f"{path} {body[:60]!r}", answer.status_code] += 1
            assert isinstance(answer.json(), dict)
        if not body.startswith(b"{}"):
            answer = await mage.client.post("/api/runs", content=b'{"run": ' + body + b"}", headers=bearer)
            statuses[f"/api/runs {body[:60]!r}", answer.status_code] += 1

    assert {status for _, status in statuses} <= {200, 400, 401, 404, 409}, statuses


async def test_no_path_or_query_is_answered_with_500(mage: Penstock) -> None:
    odd = [
        "%00",
        "%ff",
        "%ED%A0%80",
        "x" * 5000,
        "%F0%9F%92%A9",
        "-1",
        "9" * 40,
        "0198f0a0-0000-7000-8000-000000000001",
    ]
    paths = [f"/api/pipeline_runs/{each}" for each in odd]
    paths += [f"/api/pipeline_schedules/{each}" for each in odd]
    paths += [f"/api/pipeline_schedules/{each}/pipeline_runs" for each in odd]
    paths += [f"/api/pipelines/{each}/pipeline_schedules" for each in odd]
    names = ("_limit", "_offset", "status[]", "pipeline_uuid[]", "start_timestamp", "order_by[]", "backfill_id")
    paths += [f"/api/pipeline_runs?{name}={each}" for name in names for each in odd]
    paths += [f"/api/pipeline_schedules?{name}={each}" for name in ("status", "schedule_type", "tag") for each in odd]
    statuses = {path: (await mage.client.get(path)).status_code for path in paths}

    assert set(statuses.values()) <= {200, 400, 404}, statuses
