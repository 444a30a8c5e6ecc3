"""Who asked for it is told of the end of a run: signed, again until it is heard, and never somewhere inside."""

import asyncio
import datetime as dt
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.faults import Connection
from tests.receivers import Receiver, Reply
from tests.system import Json, Penstock
from tests.told import LOCAL, callbacks_of, reached, settled, trigger
from tests.waiting import eventually

PAUSE = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM callbacks WHERE run_id = $1"


@pytest.fixture
async def penstock(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=FLOWS, **LOCAL
    ) as system:
        yield system


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as listening:
        yield listening


async def make_due(connection: Connection) -> None:
    await connection.execute("UPDATE callbacks SET next_attempt_at = clock_timestamp() WHERE state = 'pending'")


async def test_a_callback_is_signed_prompt_and_shown(outgoing: Penstock, receiver: Receiver) -> None:
    url = f"{receiver.url}/done/{'s' * 30}?token=secret"

    run_id = await trigger(outgoing, callback_url=url, note="by hand")
    [told] = await receiver.got(1)
    heard_at = time.time()
    [callback] = await settled(outgoing, run_id, "delivered")

    secrets = (await outgoing.client.get("/v1/callbacks/signing-secrets")).json()["items"]
    assert len(secrets) == 2
    for secret in secrets:  # one signature for each key
        Webhook(secret["secret"]).verify(told.body, told.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret["secret"]).verify(told.body + b" ", told.headers)
    assert told.path == f"/done/{'s' * 30}?token=secret"
    assert told.headers["content-type"] == "application/json"
    assert told.headers["webhook-id"] == callback["id"]
    run = await outgoing.run(run_id)
    assert run["callback_url"] == f"{receiver.url}/done/***?token=***"
    shown = {name: value for name, value in run.items() if name != "block_runs"}
    assert told.json == {"type": "run.success", "timestamp": run["finished_at"], "data": shown}
    assert heard_at - dt.datetime.fromisoformat(run["finished_at"]).timestamp() < 2  # 0.1 s on a quiet machine
    [attempt] = callback.pop("history")
    assert callback.pop("last_attempt") == attempt
    assert attempt == {
        "at": attempt["at"],
        "status": 204,
        "duration_ms": attempt["duration_ms"],
        "error": None,
        "answer": "",
    }
    assert callback == {
        "id": callback["id"],
        "run_id": run_id,
        "kind": "webhook",
        "reason": "finished",
        "target": f"{receiver.url}/done/***?token=***",
        "state": "delivered",
        "attempts": 1,
        "next_attempt_at": None,
        "delivered_at": callback["delivered_at"],
        "created_at": callback["created_at"],
    }


async def test_every_way_to_end_is_told_to_run_schedule_and_pipeline(
    penstock: Penstock, connection: Connection
) -> None:
    async with Receiver() as receiver:
        await penstock.start_gateway()
        runner = await penstock.start_runner()
        for pipeline in ("quick", "breaks", "lingering"):
            notify = {"callback_url": f"{receiver.url}/pipeline"}
            assert (
                await penstock.client.patch(f"/v1/pipelines/{pipeline}", json={"notify": notify})
            ).status_code == 200
        hook = await penstock.hook("quick", notify={"callback_url": f"{receiver.url}/schedule"})
        assert (await penstock.deliver(hook.replace(LOCAL["public_url"], penstock.url))).status_code == 202
        await receiver.got(2)
        assert {(told.path, told.json["type"]) for told in receiver.received} == {
            ("/pipeline", "run.success"),
            ("/schedule", "run.success"),
        }

        receiver.received.clear()
        await trigger(penstock, "breaks", callback_url=f"{receiver.url}/run")
        await receiver.got(2)
        assert {(told.path, told.json["type"]) for told in receiver.received} == {
            ("/pipeline", "run.failed"),
            ("/run", "run.failed"),
        }
        assert receiver.received[0].json["data"]["error"]["block_id"] == "broken"

        receiver.received.clear()
        running = await trigger(penstock, "lingering")
        await reached(penstock, running, "running")
        await penstock.client.post(f"/v1/runs/{running}/cancel")
        [told] = await receiver.got(1)
        assert (told.json["type"], told.json["data"]["id"]) == ("run.cancelled", running)

        receiver.received.clear()
        await penstock.client.patch("/v1/pipelines/lingering", json={"is_paused": True})
        queued = await trigger(penstock, "lingering", callback_url=f"{receiver.url}/pipeline")  # one target, told once
        await penstock.client.post(f"/v1/runs/{queued}/cancel")
        [told] = await receiver.got(1)
        assert told.json["data"]["id"] == queued

        receiver.received.clear()
        await penstock.client.patch("/v1/pipelines/lingering", json={"is_paused": False})
        await connection.execute("ALTER TABLE runs ALTER max_attempts SET DEFAULT 1")
        crashed = await trigger(penstock, "lingering")
        await reached(penstock, crashed, "running")
        await runner.end(signal.SIGKILL)
        await penstock.start_runner()
        [told] = await receiver.got(1)
        assert told.json["data"]["error"]["type"] == "CrashLoop"
    assert await connection.fetchval("SELECT count(*) FROM callbacks") == 7


async def test_runs_without_targets_leave_no_callbacks(outgoing: Penstock, outgoing_connection: Connection) -> None:
    for pipeline in ("quick", "breaks"):
        run_id = await trigger(outgoing, pipeline)
        await outgoing.ended(run_id)
        assert await callbacks_of(outgoing, run_id) == []
        assert not await outgoing_connection.fetchval("SELECT wants_callback FROM runs WHERE id = $1", run_id)


async def test_a_receiver_that_is_down_is_told_again_under_the_same_id(
    outgoing: Penstock, receiver: Receiver, outgoing_connection: Connection
) -> None:
    receiver.replies = [
        Reply(500, body=b"oh\0 no\x1b[31m"),
        Reply(503, {"retry-after": "4000"}),
        Reply(302, {"location": "/"}),
    ]
    run_id = await trigger(outgoing, callback_url=receiver.url)

    for attempt in range(1, 4):
        await receiver.got(attempt)
        await eventually(lambda n=attempt: _has_attempts(outgoing_connection, run_id, n), timeout=10)
        pause = await outgoing_connection.fetchval(PAUSE, run_id)
        least, most = {1: (3, 5.1), 2: (3900, 4001), 3: (95, 121)}[attempt]
        assert least < pause < most
        await make_due(outgoing_connection)
    [callback] = await settled(outgoing, run_id, "delivered")

    assert len({told.headers["webhook-id"] for told in receiver.received}) == 1
    assert len({told.body for told in receiver.received}) == 1
    assert [attempt["status"] for attempt in callback["history"]] == [500, 503, 302, 204]
    assert callback["history"][0]["answer"] == "oh  no [31m"
    assert callback["history"][0]["error"] == "answered 500"
    assert callback["attempts"] == 4


async def test_a_receiver_that_is_gone_or_deaf_for_a_day_is_given_up_and_can_be_resent(
    outgoing: Penstock, receiver: Receiver, outgoing_connection: Connection
) -> None:
    receiver.replies = [Reply(410), Reply(500)]
    gone = await trigger(outgoing, callback_url=receiver.url)
    [callback] = await settled(outgoing, gone, "failed")
    assert callback["attempts"] == 1

    resent = await outgoing.client.post(f"/v1/callbacks/{callback['id']}/resend")
    assert resent.status_code == 202
    await receiver.got(2)
    await eventually(lambda: _has_attempts(outgoing_connection, gone, 2))
    await outgoing_connection.execute(
        "UPDATE callbacks SET failures = 9, next_attempt_at = clock_timestamp() WHERE run_id = $1", gone
    )
    receiver.replies = [Reply(500)]
    [callback] = await settled(outgoing, gone, "failed")
    assert callback["attempts"] == 3

    await outgoing.client.post(f"/v1/callbacks/{callback['id']}/resend")
    [callback] = await settled(outgoing, gone, "delivered")
    assert len({told.headers["webhook-id"] for told in receiver.received}) == 1
    by_state = {"run_id": gone, "state": "failed"}
    assert (await outgoing.client.get("/v1/callbacks", params=by_state)).json()["items"] == []
    assert (await outgoing.client.post(f"/v1/callbacks/{gone}/resend")).status_code == 404


async def test_kill_9_in_the_middle_of_an_attempt_only_delays_it(
    penstock: Penstock, receiver: Receiver, connection: Connection
) -> None:
    receiver.replies = [Reply(hang=60)]
    await penstock.start_gateway()
    runner = await penstock.start_runner()
    run_id = await trigger(penstock, callback_url=receiver.url)
    await receiver.got(1)
    await runner.end(signal.SIGKILL)
    assert 30 < await connection.fetchval(PAUSE, run_id) <= 60

    await make_due(connection)
    await penstock.start_runner()
    await settled(penstock, run_id, "delivered")
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_what_is_not_public_is_never_called(penstock: Penstock, receiver: Receiver) -> None:
    await penstock.start(outgoing_allow="10.0.0.0/8")
    port = receiver.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "2130706433", "public.example@127.0.0.1", "[::ffff:127.0.0.1]"):
        run_id = await trigger(penstock, callback_url=f"http://{host}:{port}/x")
        [callback] = await settled(penstock, run_id, "failed")
        assert callback["attempts"] == 1
        assert "PENSTOCK_OUTGOING_ALLOW" in callback["history"][0]["error"]
    assert receiver.received == []


async def test_a_slow_receiver_does_not_hold_up_the_others(outgoing: Penstock, receiver: Receiver) -> None:
    async with Receiver(lambda _: Reply(hang=2)) as slow:
        await asyncio.gather(*(trigger(outgoing, callback_url=f"{slow.url}/{number}") for number in range(30)))
        await slow.got(1)
        begun = time.monotonic()
        await trigger(outgoing, callback_url=receiver.url.replace("127.0.0.1", "localhost"))
        await receiver.got(1)
        took = time.monotonic() - begun
    assert took < 2
    assert slow.most_at_once <= 8


async def test_without_redis_and_without_a_wake_callbacks_are_found(
    servers: EmbeddedServers, database_url: str, tmp_path: Path, receiver: Receiver, connection: Connection
) -> None:
    async with Penstock(
        database_url=database_url, redis_url="redis://127.0.0.1:1", directory=tmp_path, pipelines=FLOWS, **LOCAL
    ) as penstock:
        await penstock.start()
        run_id = await trigger(penstock, callback_url=receiver.url)
        await receiver.got(1, within=20)
        await settled(penstock, run_id, "delivered")


async def test_a_target_that_is_sent_back_masked_stays_what_it_was(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    real = {
        "callback_url": f"https://ada:secret@example.org/{'t' * 40}",
        "slack_url": "https://hooks.example.org/T/B/s",
    }
    schedule = await penstock.schedule(notify=real)
    for path in ("/v1/pipelines/quick", f"/v1/schedules/{schedule['id']}"):
        await penstock.client.patch(path, json={"notify": real})
        shown = (await penstock.client.get(path)).json()["notify"]
        assert shown == {"callback_url": "https://***@example.org/***", "slack_url": "***"}
        changed = await penstock.client.patch(path, json={"notify": shown | {"email": ["ada@example.org"]}})
        assert changed.json()["notify"] == shown | {"email": ["ada@example.org"]}
        table = path.split("/")[2]
        stored = await connection.fetchval(f"SELECT notify FROM {table} WHERE id::text = $1", path.rpartition("/")[2])
        assert stored == real | {"email": ["ada@example.org"]}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"outgoing_allow": "10.0.0.1/8"}, "PENSTOCK_OUTGOING_ALLOW: '10.0.0.1/8' is not a network"),
        ({"smtp_url": "mail.example.org"}, "PENSTOCK_SMTP_URL is smtp://"),
    ],
)
async def test_a_wrong_setting_stops_the_start(penstock: Penstock, settings: Json, reason: str) -> None:
    runner = penstock.begin("runner", **settings)

    assert await asyncio.to_thread(runner.popen.wait, 15) == 1
    assert reason in runner.log


async def test_without_keys_to_sign_with_no_callback_url_is_taken(penstock: Penstock) -> None:
    await penstock.start(secret_keys="")
    url = "https://example.org/x"
    for method, path, body, pointer in (
        ("POST", "/v1/pipelines/quick/runs", {"callback_url": url}, "/callback_url"),
        ("PATCH", "/v1/pipelines/quick", {"notify": {"callback_url": url}}, "/notify/callback_url"),
        (
            "POST",
            "/v1/schedules",
            {"pipeline_id": "quick", "name": "x", "notify": {"callback_url": url}},
            "/notify/callback_url",
        ),
    ):
        refused = await penstock.client.request(method, path, json=body)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == pointer
        assert "PENSTOCK_SECRET_KEYS" in refused.json()["detail"]


async def _has_attempts(connection: Connection, run_id: str, count: int) -> bool:
    found = await connection.fetchval("SELECT jsonb_array_length(history) FROM callbacks WHERE run_id = $1", run_id)
    return bool(found == count)
