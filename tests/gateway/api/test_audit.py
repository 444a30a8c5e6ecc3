"""The audit trail: every deed is in it once, together with who did it, and no secret ever."""

import uuid
from typing import Any

import httpx
import pytest

from tests.faults import Connection, trigger
from tests.problems import problem
from tests.system import Json, Penstock

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"


async def entries(shared: Penstock, **query: Any) -> list[Json]:
    answer = await shared.client.get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def deeds(shared: Penstock, subject: str) -> list[tuple[str, Json]]:
    """Read what was done to something, the first deed first."""
    return [(entry["action"], entry["details"]) for entry in reversed(await entries(shared, subject=subject))]


async def test_who_did_what_to_a_run_can_be_read(shared: Penstock) -> None:
    name = f"night shift {uuid.uuid4()}"
    key = (await shared.client.post("/v1/keys", json={"name": name, "role": "operator"})).json()
    run_id = await trigger(shared, "raises")
    await shared.ended(run_id)

    headers = {"authorization": f"Bearer {key['key']}"}
    for verb, body in (("resume", {"note": "again"}), ("rerun", {"variables": {}}), ("mark", {"state": "success"})):
        answer = await shared.client.post(f"/v1/runs/{run_id}/{verb}", json=body, headers=headers)
        assert answer.status_code in (200, 202)
    refused = await shared.client.post(f"/v1/runs/{run_id}/cancel", headers=headers)
    problem(refused, 409, "conflict")

    found = await entries(shared, caller=name)
    assert [entry["action"] for entry in found] == ["run.mark", "run.rerun", "run.resume"]
    assert found[0] == {
        "id": found[0]["id"],
        "at": found[0]["at"],
        "key_id": key["id"],
        "caller": name,
        "role": "operator",
        "action": "run.mark",
        "subject": f"run:{run_id}",
        "details": {"from": "failed", "to": "success", "note": None},
    }
    assert (await shared.run(found[2]["details"]["new_run_id"]))["resumed_from"] == run_id
    assert found[1]["details"]["variables"] == {}
    assert await entries(shared, subject=f"run:{run_id}") == found
    assert await entries(shared, subject=f"run:{run_id}", action="run.rerun") == [found[1]]
    assert await entries(shared, subject=f"run:{run_id}", created_before="2026-01-01T00:00:00Z") == []
    assert await entries(shared, subject=f"run:{run_id}", created_after="2026-01-01T00:00:00Z") == found
    first = (await shared.client.get("/v1/audit", params={"caller": name, "limit": 2})).json()
    rest = await entries(shared, caller=name, limit=2, cursor=first["next_cursor"])
    assert first["items"] + rest == found
    problem(await shared.client.get("/v1/audit", params={"action": "run.explode"}), 422, "invalid")
    problem(await shared.client.get("/v1/audit", headers=headers), 403, "forbidden")


async def test_a_cancelled_run_says_who_cancelled_it(shared: Penstock) -> None:
    run_id = await trigger(shared, "steps", seconds=20)

    await shared.client.post(f"/v1/runs/{run_id}/cancel")

    assert await deeds(shared, f"run:{run_id}") == [("run.cancel", {})]
    await shared.ended(run_id)


async def test_what_is_set_up_is_written_down_and_its_secrets_are_not(
    shared: Penstock, shared_connection: Connection
) -> None:
    slack = "https://hooks.slack.example/T0/s1ack-secret"
    fields = {"source": "github", "source_config": {"secrets": ["signing-secret"]}, "notify": {"slack_url": slack}}
    schedule = await shared.schedule("quick", **fields)
    path = f"/v1/schedules/{schedule['id']}"
    for change in ({"is_paused": True}, {"is_paused": False}, {"name": "renamed"}, {}, fields):
        assert (await shared.client.patch(path, json=change)).status_code == 200
    token = (await shared.client.post(f"{path}/tokens", json={"label": "ci"})).json()
    rotated = (await shared.client.post(f"/v1/tokens/{token['id']}/rotate", json={"grace_s": 60})).json()
    await shared.client.delete(f"/v1/tokens/{rotated['id']}")
    link = (await shared.client.post(f"{path}/links", json={"max_uses": 3})).json()
    key = (await shared.client.post("/v1/keys", json={"name": "short-lived", "role": "viewer"})).json()
    await shared.client.delete(f"/v1/keys/{key['id']}")
    await shared.client.delete(path)

    assert await deeds(shared, f"schedule:{schedule['id']}") == [
        ("schedule.create", {"pipeline_id": "quick", "name": "test", "kind": "api", "source": "github"}),
        ("schedule.pause", {"is_paused": True}),
        ("schedule.unpause", {"is_paused": False}),
        ("schedule.change", {"name": "renamed"}),
        (
            "schedule.change",
            {"source": "github", "source_config": {"secrets": ["***"]}, "notify": {"slack_url": "***"}},
        ),
        ("schedule.delete", {"pipeline_id": "quick", "name": "renamed"}),
    ]
    of = {"schedule_id": schedule["id"]}
    assert await deeds(shared, f"token:{token['id']}") == [
        ("token.create", of | {"label": "ci", "expires_at": None}),
        ("token.rotate", of | {"grace_s": 60, "new_token_id": rotated["id"]}),
    ]
    assert await deeds(shared, f"token:{rotated['id']}") == [("token.revoke", {})]
    assert await deeds(shared, f"link:{link['id']}") == [
        ("link.create", of | {"expires_at": link["expires_at"], "max_uses": 3})
    ]
    assert await deeds(shared, f"key:{key['id']}") == [
        ("key.create", {"name": "short-lived", "role": "viewer"}),
        ("key.revoke", {}),
    ]
    written = await shared_connection.fetchval("SELECT string_agg(audit::text, ' ') FROM audit")
    for secret in ("signing-secret", "s1ack-secret", token["token"], rotated["token"], key["key"], link["url"]):
        assert secret not in written


async def test_a_pipeline_says_who_paused_it(shared: Penstock) -> None:
    before = len(await deeds(shared, "pipeline:exits"))

    await shared.client.patch("/v1/pipelines/exits", json={"is_paused": True, "on_paused": "reject"})
    await shared.client.patch("/v1/pipelines/exits", json={"is_paused": False})
    await shared.client.patch("/v1/pipelines/exits", json={"on_paused": "queue", "max_active_runs": None})

    assert (await deeds(shared, "pipeline:exits"))[before:] == [
        ("pipeline.pause", {"is_paused": True, "on_paused": "reject"}),
        ("pipeline.unpause", {"is_paused": False}),
        ("pipeline.change", {"on_paused": "queue", "max_active_runs": None}),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/pipelines/nowhere", {"is_paused": True}),
        ("PATCH", "/v1/pipelines/quick", {"max_active_runs": 0}),
        ("PATCH", f"/v1/schedules/{UNKNOWN}", {"is_paused": True}),
        ("POST", "/v1/schedules", {"pipeline_id": "nowhere", "name": "x"}),
        ("DELETE", f"/v1/schedules/{UNKNOWN}", None),
        ("DELETE", f"/v1/tokens/{UNKNOWN}", None),
        ("DELETE", f"/v1/keys/{UNKNOWN}", None),
        ("POST", f"/v1/runs/{UNKNOWN}/mark", {"state": "success"}),
    ],
)
async def test_what_was_refused_was_not_done(
    method: str, path: str, body: Json | None, shared: Penstock, shared_connection: Connection
) -> None:
    before = await shared_connection.fetchval("SELECT count(*) FROM audit")

    answer: httpx.Response = await shared.client.request(method, path, json=body)

    assert answer.status_code in (404, 422)
    assert await shared_connection.fetchval("SELECT count(*) FROM audit") == before
