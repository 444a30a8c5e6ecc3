"""`/v1`, resource by resource: what is created, read, changed and ended, whole body by whole body."""

import uuid

import httpx
import pytest

from tests.problems import problem
from tests.system import Json, Penstock

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"
GRAPH = {"blocks": [{"id": "first", "retry_delay": 1.0}, {"id": "second", "upstream": ["first"], "retry_delay": 1.0}]}


def unlike(body: Json, *names: str) -> Json:
    """Give the members of a body that nobody can know before."""
    assert all(body[name] for name in names)
    return {name: body[name] for name in names}


async def test_a_pipeline_is_shown_as_its_file_says(shared: Penstock) -> None:
    pipeline = (await shared.client.get("/v1/pipelines/quick")).json()

    assert pipeline == unlike(pipeline, "version", "created_at", "updated_at") | {
        "id": "quick",
        "name": None,
        "description": None,
        "doc": "Two blocks that do nothing but return.",
        "graph": GRAPH,
        "params_schema": None,
        "max_active_runs": None,
        "queue": "default",
        "run_timeout_s": None,
        "notify": {},
        "is_paused": False,
        "on_paused": "queue",
        "file": "quick.py",
        "error": None,
    }


async def test_a_pipeline_can_be_paused_and_holds_its_runs_until_it_goes_on(shared: Penstock) -> None:
    paused = await shared.client.patch("/v1/pipelines/flaky", json={"is_paused": True})
    assert (paused.status_code, paused.json()["is_paused"]) == (200, True)
    assert (await shared.client.patch("/v1/pipelines/flaky", json={})).json()["is_paused"] is True

    try:
        run = (await shared.client.post("/v1/pipelines/flaky/runs")).json()
        after = await shared.client.post("/v1/pipelines/quick/runs")
        await shared.ended(after.json()["id"])
        assert (await shared.run(run["id"]))["state"] == "queued"
    finally:
        await shared.client.patch("/v1/pipelines/flaky", json={"is_paused": False})
    assert (await shared.ended(run["id"]))["state"] == "success"


async def test_a_run_is_triggered_and_read_by_id_and_by_number(shared: Penstock) -> None:
    answer = await shared.client.post(
        "/v1/pipelines/steps/runs",
        json={
            "variables": {"seconds": 0.01},
            "logical_date": "2026-01-31T12:00:00+01:00",
            "run_key": f"key-{uuid.uuid4()}",
            "note": "by hand",
        },
    )
    queued = answer.json()
    run_id = queued["id"]

    assert (answer.status_code, answer.headers["location"]) == (202, f"{shared.url}/v1/runs/{run_id}")
    expected = unlike(queued, "id", "number", "run_key", "created_at") | {
        "pipeline_id": "steps",
        "schedule_id": None,
        "event_id": None,
        "state": "queued",
        "variables": {"seconds": 0.01},
        "event_variables": None,
        "logical_date": "2026-01-31T11:00:00Z",
        "note": "by hand",
        "origin": "api",
        "parent_id": None,
        "resumed_from": None,
        "backfill_id": None,
        "replay_id": None,
        "queue": "default",
        "passed_sla": False,
        "callback_url": None,
        "attempt": 0,
        "started_at": None,
        "finished_at": None,
        "error": None,
    }
    assert queued == expected | {"block_runs": queued["block_runs"]}

    ended = await shared.ended(run_id)
    assert ended == expected | unlike(ended, "started_at", "finished_at", "block_runs") | {
        "state": "success",
        "attempt": 1,
    }
    first = ended["block_runs"][0]
    assert [block["block_id"] for block in ended["block_runs"]] == ["one", "two", "three", "four", "five"]
    assert first == unlike(first, "duration_ms", "started_at", "finished_at") | {
        "block_id": "one",
        "map_index": None,
        "state": "success",
        "attempt": 1,
        "row_count": None,
        "queue_ms": first["queue_ms"],
        "error": None,
    }
    assert await shared.run(str(ended["number"])) == ended


async def test_the_error_of_a_run_says_what_where_and_why(shared: Penstock) -> None:
    run = await shared.ended((await shared.client.post("/v1/pipelines/raises/runs")).json()["id"])

    assert run["state"] == "failed"
    assert run["error"] == unlike(run["error"], "traceback") | {
        "type": "ValueError",
        "message": "no such region: None",
        "block_id": "breaks",
    }
    assert "misfortunes.py" in run["error"]["traceback"]


async def test_a_run_key_makes_one_run_and_the_conflict_names_it(shared: Penstock) -> None:
    key = f"key-{uuid.uuid4()}"
    first = (await shared.client.post("/v1/pipelines/quick/runs", json={"run_key": key})).json()

    again = await shared.client.post("/v1/pipelines/quick/runs", json={"run_key": key})
    elsewhere = await shared.client.post("/v1/pipelines/flaky/runs", json={"run_key": key})

    assert first["id"] in problem(again, 409, "conflict")
    assert again.json()["run_id"] == first["id"]
    assert elsewhere.status_code == 202


async def test_params_are_checked_before_there_is_a_run(shared: Penstock) -> None:
    refused = await shared.client.post("/v1/pipelines/steps/runs", json={"variables": {"seconds": "long", "diary": 1}})

    problem(refused, 422, "invalid")
    assert {error["pointer"] for error in refused.json()["errors"]} == {"/variables/seconds", "/variables/diary"}


async def test_a_run_that_has_ended_cannot_be_cancelled(shared: Penstock) -> None:
    run = await shared.ended((await shared.client.post("/v1/pipelines/quick/runs")).json()["id"])

    refused = await shared.client.post(f"/v1/runs/{run['id']}/cancel")

    problem(refused, 409, "conflict")
    assert refused.json()["state"] == "success"


async def test_a_log_is_read_in_order_by_level_block_and_attempt(shared: Penstock) -> None:
    run = await shared.ended((await shared.client.post("/v1/pipelines/flaky/runs")).json()["id"])
    path = f"/v1/runs/{run['id']}/logs"

    lines = (await shared.client.get(path)).json()["items"]
    printed = [line for line in lines if line["message"].startswith("attempt")]
    assert [line["message"] for line in printed] == ["attempt 1", "attempt 2", "attempt 3"]
    assert printed[0] == unlike(printed[0], "seq", "at") | {
        "run_id": run["id"],
        "block_id": "tries",
        "map_index": None,
        "attempt": 1,
        "level": "info",
        "message": "attempt 1",
        "fields": {},
    }
    second = (await shared.client.get(path, params={"attempt": 2, "block_id": "tries"})).json()["items"]
    assert {line["attempt"] for line in second} == {2}
    assert (await shared.client.get(path, params={"level": "error"})).json()["items"] == [
        line for line in lines if line["level"] == "error"
    ]
    after = (await shared.client.get(path, params={"after": printed[0]["seq"]})).json()["items"]
    assert after == [line for line in lines if line["seq"] > printed[0]["seq"]]


async def test_a_schedule_is_created_read_changed_and_ended(shared: Penstock) -> None:
    wanted = {
        "pipeline_id": "quick",
        "name": "from GitHub",
        "kind": "api",
        "source": "github",
        "source_config": {"secrets": ["s3cret", "another"]},
        "variables": {"a": [1, {"b": None}]},
        "is_paused": True,
        "on_paused": "reject",
        "max_active_runs": 3,
        "body_limit": 1000,
        "cron": None,
        "every_s": None,
        "timezone": "Europe/Rome",
        "start_at": None,
        "end_at": None,
        "catchup": False,
        "jitter_s": 0,
        "overlap": "allow",
        "filter": "body.ref == 'refs/heads/main'",
        "mapping": {"region": "body.region"},
        "dedupe": "body.id",
        "split": False,
        "sla_s": 60,
        "run_timeout_s": 30.0,
        "max_queue_age_s": 3600,
        "notify": {"email": ["ops@example.com"], "on": ["failed"]},
    }
    answer = await shared.client.post("/v1/schedules", json=wanted)
    created = answer.json()

    assert answer.status_code == 201
    assert created == wanted | unlike(created, "id", "number", "created_at", "updated_at") | {
        "source_config": {"secrets": ["***", "***"]},
        "next_fire_at": None,
        "last_fired_at": None,
    }
    path = f"/v1/schedules/{created['id']}"
    assert (await shared.client.get(path)).json() == created
    assert (await shared.client.get(f"/v1/schedules/{created['number']}")).json() == created

    changes = {"name": "renamed", "is_paused": False, "max_active_runs": None, "variables": {}}
    changed = (await shared.client.patch(path, json=changes)).json()
    assert changed == created | changes | unlike(changed, "updated_at")
    assert changed["updated_at"] > created["updated_at"]

    assert (await shared.client.delete(path)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        problem(await shared.client.request(method, path, json={}), 404, "not_found")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"pipeline_id": "nowhere"}, "/pipeline_id"),
        ({"pipeline_id": "-dashed"}, "/pipeline_id"),
        ({"name": ""}, "/name"),
        ({"name": 1}, "/name"),
        ({"kind": "moon"}, "/kind"),
        ({"source": "nobody"}, "/source"),
        ({"source": "github"}, "/source_config/secrets"),
        ({"source_config": {"secrets": [""]}}, "/source_config/secrets/0"),
        ({"source_config": {"secret": "a"}}, "/source_config"),
        ({"source_config": {"jwks_url": "https://ada:s3cret@example.com/keys"}}, "/source_config/jwks_url"),
        ({"source_config": {"jwks_url": "file:///etc/passwd"}}, "/source_config/jwks_url"),
        ({"on_paused": "sleep"}, "/on_paused"),
        ({"max_active_runs": 0}, "/max_active_runs"),
        ({"body_limit": 26214401}, "/body_limit"),
        ({"is_paused": "no"}, "/is_paused"),
        ({"source": "stripe", "source_config": {"secrets": ["whsec_a"]}, "split": True}, "/split"),
        ({"id": UNKNOWN}, ""),
        ({"pipeline_id": "steps", "variables": {"seconds": "x"}}, "/variables/seconds"),
    ],
)
async def test_a_wrong_field_of_a_schedule_is_pointed_at(fields: Json, pointer: str, shared: Penstock) -> None:
    refused = await shared.client.post("/v1/schedules", json={"pipeline_id": "quick", "name": "x"} | fields)

    problem(refused, 422, "invalid")
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/schedules", {"pipeline_id": "quick", "name": "a\0b"}),
        (
            "POST",
            "/v1/schedules",
            {"pipeline_id": "quick", "name": "a", "source": "github", "source_config": {"secrets": ["a\0b"]}},
        ),
        ("POST", "/v1/keys", {"name": "a\0b"}),
        ("POST", "/v1/pipelines/quick/runs", {"note": "a\0b"}),
        ("POST", "/v1/pipelines/quick/runs", {"run_key": "a\0b"}),
        ("POST", "/v1/pipelines/quick/runs", {"logical_date": "0001-01-01T00:00:00+23:59"}),
        ("POST", "/v1/pipelines/quick/runs", {"logical_date": "9999-12-31T23:59:59-23:59"}),
    ],
)
async def test_what_a_database_cannot_hold_is_the_callers_error(
    method: str, path: str, body: Json, shared: Penstock
) -> None:
    assert "cannot be stored" in problem(await shared.client.request(method, path, json=body), 422, "invalid")


async def test_variables_may_hold_what_text_cannot(shared: Penstock) -> None:
    odd = {"a\0b": "\0", "big": 12345678901234567890, "é": "🎈"}

    answer = await shared.client.post("/v1/pipelines/quick/runs", json={"variables": odd})

    assert (answer.status_code, answer.json()["variables"]) == (202, odd)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid"),
        (b"{", 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b'{"variables": {"a": NaN}}', 400, "malformed"),
        (b'{"name": ' + b"[" * 5000, 422, "invalid"),
        (b'{"variables": {"a": ' + b"[" * 5000, 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'{"pipeline_id": "quick", "name": "x"}{}', 400, "malformed"),
    ],
)
async def test_a_body_that_is_no_object_is_refused_clearly(
    body: bytes, status: int, code: str, shared: Penstock
) -> None:
    problem(await shared.client.post("/v1/schedules", content=body), status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/pipelines/nowhere",
        "/v1/schedules/{unknown}",
        "/v1/schedules/999999999",
        "/v1/schedules/latest",
        "/v1/schedules/{unknown}/tokens",
        "/v1/runs/{unknown}",
        "/v1/runs/999999999",
        "/v1/runs/99999999999999999999999",
        "/v1/runs/-1",
        "/v1/runs/{unknown}/logs",
        "/v1/runs/{unknown}/stream",
        "/v1/events/{unknown}",
        "/v1/events/1",
        "/v1/events/{unknown}/body",
        "/v1/nothing",
    ],
)
async def test_what_is_not_there_is_not_found(path: str, shared: Penstock) -> None:
    problem(await shared.client.get(path.format(unknown=UNKNOWN)), 404, "not_found")


async def test_an_api_key_is_shown_once_listed_by_hint_and_ends_when_it_is_revoked(shared: Penstock) -> None:
    answer = await shared.client.post("/v1/keys", json={"name": "ci", "role": "operator"})
    made = answer.json()
    assert answer.status_code == 201
    assert made == unlike(made, "id", "key") | {"name": "ci", "role": "operator"}

    async def with_it() -> httpx.Response:
        return await shared.client.get("/v1/runs", headers={"authorization": f"Bearer {made['key']}"})

    assert (await with_it()).status_code == 200
    listing = await shared.client.get("/v1/keys")
    assert made["key"] not in listing.text
    listed = next(key for key in listing.json()["items"] if key["id"] == made["id"])
    assert listed == unlike(listed, "created_at") | {
        "id": made["id"],
        "name": "ci",
        "role": "operator",
        "hint": made["key"][-4:],
        "last_used_at": listed["last_used_at"],
        "revoked_at": None,
    }
    assert (await shared.client.delete(f"/v1/keys/{made['id']}")).status_code == 204
    assert (await with_it()).status_code == 401
    assert (await shared.client.delete(f"/v1/keys/{UNKNOWN}")).status_code == 404
