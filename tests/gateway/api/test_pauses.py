"""What a user sets on a pipeline or schedule beside its file: pauses, limits, whom to tell."""

import asyncio
import itertools
import uuid

from tests.faults import Connection, trigger
from tests.problems import problem
from tests.system import Penstock


async def test_a_paused_pipeline_queues_rejects_or_runs_and_no_call_unpauses_it(shared: Penstock) -> None:
    path = "/v1/pipelines/raises"
    try:
        rejects = (await shared.client.patch(path, json={"is_paused": True, "on_paused": "reject"})).json()
        assert (rejects["is_paused"], rejects["on_paused"]) == (True, "reject")
        detail = problem(await shared.client.post(f"{path}/runs"), 409, "conflict")
        assert detail.startswith("Pipeline raises is paused and rejects runs: `penstock pipelines unpause raises`")

        await shared.client.patch(path, json={"on_paused": "queue"})
        waiting = [await trigger(shared, "raises") for _ in range(3)]
        await shared.ended(await trigger(shared, "quick"))
        assert {(await shared.run(run_id))["state"] for run_id in waiting} == {"queued"}

        await shared.client.patch(path, json={"on_paused": "run"})
        for run_id in [*waiting, await trigger(shared, "raises")]:
            assert (await shared.ended(run_id))["state"] == "failed"
        assert (await shared.client.get(path)).json()["is_paused"] is True
        rejected = await shared.client.patch(path, json={"on_paused": "reject"})
        assert rejected.status_code == 200
        for verb in ("resume", "rerun"):
            problem(await shared.client.post(f"/v1/runs/{waiting[0]}/{verb}"), 409, "conflict")
    finally:
        await shared.client.patch(path, json={"is_paused": False, "on_paused": "queue"})


async def test_unpausing_starts_what_waited_promptly_and_in_order(
    shared: Penstock, shared_connection: Connection
) -> None:
    path = "/v1/pipelines/flaky"
    await shared.client.patch(path, json={"is_paused": True, "max_active_runs": 1})
    try:
        waiting = [await trigger(shared, "flaky") for _ in range(4)]
        await asyncio.sleep(0.4)  # older than the age from which a run counts as lost
    finally:
        await shared.client.patch(path, json={"is_paused": False})
    for run_id in waiting:
        await shared.ended(run_id)
    await shared.client.patch(path, json={"max_active_runs": None})

    started = await shared_connection.fetch(
        "SELECT id, started_at, finished_at FROM runs WHERE id = ANY ($1::uuid[]) ORDER BY started_at", waiting
    )
    assert [str(row["id"]) for row in started] == waiting
    for before, after in itertools.pairwise(started):
        assert before["finished_at"] <= after["started_at"]


async def test_settings_that_come_together_do_not_undo_each_other(shared: Penstock) -> None:
    path = "/v1/pipelines/chatty"
    limits = range(1, 9)
    for is_paused in (True, False, True, False):
        await asyncio.gather(
            shared.client.patch(path, json={"is_paused": is_paused}),
            *(shared.client.patch(path, json={"max_active_runs": limit}) for limit in limits),
        )
        assert (await shared.client.get(path)).json()["is_paused"] is is_paused
    await shared.client.patch(path, json={"max_active_runs": None})


async def test_a_mask_that_is_sent_back_changes_no_secret(shared: Penstock, shared_connection: Connection) -> None:
    notify = {"slack_url": "https://hooks.slack.example/T0/s3cret", "email": ["ops@example.com"]}
    path = "/v1/pipelines/branches"
    read = (await shared.client.patch(path, json={"notify": notify})).json()["notify"]
    assert read == notify | {"slack_url": "***"}
    assert (await shared.client.get(path)).json()["notify"] == read
    listed = (await shared.client.get("/v1/pipelines", params={"q": "branches"})).json()["items"]
    assert [pipeline["notify"] for pipeline in listed] == [read]

    changed = (await shared.client.patch(path, json={"notify": read | {"email": []}})).json()["notify"]

    assert changed == {"slack_url": "***"}
    stored = await shared_connection.fetchval("SELECT notify FROM pipelines WHERE id = 'branches'")
    assert stored == {"slack_url": notify["slack_url"]}
    await shared.client.patch(path, json={"notify": {}})
    refused = await shared.client.patch(path, json={"notify": read})
    problem(refused, 422, "invalid")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/notify/slack_url"]

    config = {"secrets": ["first", "second"]}
    schedule = await shared.schedule("quick", source="github", source_config=config, notify=notify)
    path = f"/v1/schedules/{schedule['id']}"
    sent = {"notify": schedule["notify"], "source_config": {"secrets": ["***", "***", "third"]}, "name": "x"}
    assert (await shared.client.patch(path, json=sent)).status_code == 200
    row = await shared_connection.fetchrow(
        "SELECT notify, source_config FROM schedules WHERE id = $1", uuid.UUID(schedule["id"])
    )
    assert row is not None
    assert (row["notify"], row["source_config"]) == (notify, {"secrets": ["first", "second", "third"]})
