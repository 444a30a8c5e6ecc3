"""A block has its work done elsewhere, and goes on when it is called back, whatever happens meanwhile."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.faults import Connection, blocks_of, trigger
from tests.receivers import Received, Receiver, Reply
from tests.system import KEY, Penstock
from tests.waiting import eventually


@pytest.fixture
async def penstock(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with Penstock(
        database_url=database_url,
        redis_url=servers.redis_url,
        directory=tmp_path,
        pipelines=FLOWS,
        outgoing_allow="127.0.0.0/8",
        hosts=1,
        max_hosts=1,
    ) as system:
        yield system


@pytest.fixture
async def other_database_url(servers: EmbeddedServers, template: str) -> AsyncIterator[str]:
    """A second installation's database."""
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(f'CREATE DATABASE elsewhere TEMPLATE "{template}"')
    yield servers.database_url.replace("/penstock?", "/elsewhere?", 1)
    await admin.execute("DROP DATABASE elsewhere WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver(lambda _: Reply(202)) as listening:
        yield listening


async def call_back(url: str, content: bytes | str, **headers: str) -> httpx.Response:
    """Answer like an outside system: without an API key."""
    async with httpx.AsyncClient(trust_env=False) as sender:
        return await sender.post(url, content=content, headers={"content-type": "application/json"} | headers)


def same_but_token(url: str) -> str:
    return url[:-1] + ("A" if url[-1] != "A" else "B")


async def test_a_block_waits_for_an_answer_without_a_block_host(outgoing: Penstock, receiver: Receiver) -> None:
    run_id = await trigger(outgoing, "elsewhere", url=f"{receiver.url}/report")
    [asked] = await receiver.got(1)

    url = asked.json["callback_url"]
    assert asked.json == {"what": "a report", "callback_url": url}
    assert url.startswith(f"{outgoing.url}/callbacks/{run_id}/")
    assert {
        name: asked.headers[name] for name in ("idempotency-key", "x-penstock-run", "x-penstock-callback", "x-own")
    } == {
        "idempotency-key": f"{run_id}:ask",
        "x-penstock-run": run_id,
        "x-penstock-callback": url,
        "x-own": "yes",
    }
    other = await trigger(outgoing, "quick")  # the only block host is free
    assert (await outgoing.ended(other))["state"] == "success"

    unknown = [
        await call_back(same_but_token(url), "{}"),
        await call_back(url.replace(run_id, other), "{}"),
        await call_back(f"{outgoing.url}/callbacks/no-id/token", "{}"),
    ]
    assert {answer.status_code for answer in unknown} == {404}
    assert len({answer.content for answer in unknown}) == 1
    assert (await call_back(url, "{not json")).status_code == 400
    assert (await call_back(url, b" " * (2 << 20))).status_code == 413
    assert (await outgoing.run(run_id))["state"] == "running"

    first = await call_back(url, '{"rows": 3, "nul": "\\u0000"}')
    again = await call_back(url, '{"rows": 4}')
    assert (first.status_code, first.json()) == (202, {"status": "accepted"})
    assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
    assert (await outgoing.ended(run_id))["state"] == "success"


async def test_an_answer_that_is_no_json_is_an_answer(
    outgoing: Penstock, receiver: Receiver, outgoing_connection: Connection
) -> None:
    for body, content_type, stored in ((b"", "text/plain", "null"), (b"done", "text/plain", '"done"')):
        receiver.received.clear()
        run_id = await trigger(outgoing, "elsewhere", url=receiver.url)
        [asked] = await receiver.got(1)
        await call_back(asked.json["callback_url"], body, **{"content-type": content_type})
        assert (await outgoing.ended(run_id))["state"] == "success"
        payload = await outgoing_connection.fetchval("SELECT payload FROM signals WHERE run_id = $1", run_id)
        assert bytes(payload).decode() == stored


async def test_each_item_of_a_mapped_block_asks_without_waiting_for_the_others(
    outgoing: Penstock, receiver: Receiver
) -> None:
    run_id = await trigger(outgoing, "each_elsewhere", url=receiver.url)
    await receiver.got(3)  # with one block host
    keys = {asked.json["thing"]: asked.headers["idempotency-key"] for asked in receiver.received}
    assert keys == {thing: f"{run_id}:ask_each:{index}" for index, thing in enumerate("abc")}
    for asked in reversed(receiver.received):
        await call_back(asked.json["callback_url"], "{}")
    assert (await outgoing.ended(run_id))["state"] == "success"


async def test_a_failed_answer_fails_the_attempt_and_the_next_asks_anew(outgoing: Penstock, receiver: Receiver) -> None:
    run_id = await trigger(outgoing, "elsewhere", url=receiver.url)
    [first] = await receiver.got(1)
    await call_back(first.json["callback_url"], '{"state": "failed", "error": "no disk"}')
    _, second = await receiver.got(2)
    assert second.json["callback_url"] != first.json["callback_url"]
    assert second.headers["idempotency-key"] == f"{run_id}:ask:2"
    assert (await call_back(first.json["callback_url"], "{}")).status_code == 404

    await call_back(second.json["callback_url"], '{"type": "run.cancelled", "data": {"state": "cancelled"}}')
    run = await outgoing.ended(run_id)
    assert run["error"] == {
        "type": "RemoteFailed",
        "message": "the other system says cancelled",
        "block_id": "ask",
    }


async def test_a_request_that_is_refused_or_not_answered_fails_the_block(
    outgoing: Penstock, receiver: Receiver
) -> None:
    receiver.replies = [Reply(500), Reply(422, body=b"no such report")]
    run_id = await trigger(outgoing, "elsewhere", url=receiver.url)
    run = await outgoing.ended(run_id)
    assert (run["error"]["type"], run["error"]["message"]) == (
        "RemoteRefused",
        "127.0.0.1 answered 422: no such report",
    )
    assert {asked.headers["idempotency-key"] for asked in receiver.received} == {
        f"{run_id}:ask"
    }  # it may have been taken

    inside = await outgoing.ended(await trigger(outgoing, "elsewhere", url="http://10.0.0.1/"))
    assert inside["error"]["type"] == "RemoteRefused"
    late = await outgoing.ended(await trigger(outgoing, "elsewhere", url=receiver.url, timeout=0.2))
    assert (late["error"]["type"], late["error"]["message"]) == ("Timeout", "nobody called back within 0.2 s")
    impatient = await outgoing.ended(await trigger(outgoing, "impatient", url=receiver.url))
    assert impatient["error"]["type"] == "Timeout"


async def test_a_wait_can_be_cancelled(outgoing: Penstock, receiver: Receiver) -> None:
    run_id = await trigger(outgoing, "elsewhere", url=receiver.url)
    await receiver.got(1)
    await outgoing.client.post(f"/v1/runs/{run_id}/cancel")

    assert (await outgoing.ended(run_id, timeout=5))["state"] == "cancelled"
    assert (await blocks_of(outgoing, run_id))["ask"]["state"] == "cancelled"


async def test_kill_9_while_waiting_sends_nothing_twice(
    penstock: Penstock, receiver: Receiver, connection: Connection
) -> None:
    await penstock.start_gateway()
    runner = await penstock.start_runner()
    run_id = await trigger(penstock, "elsewhere", url=receiver.url)
    [asked] = await receiver.got(1)
    await eventually(lambda: connection.fetchval("SELECT sent_at FROM signals"))

    await runner.end(signal.SIGKILL)
    await call_back(asked.json["callback_url"], '{"rows": 3}')  # nobody is there to hear it
    await penstock.start_runner()

    assert (await penstock.ended(run_id))["state"] == "success"
    assert len(receiver.received) == 1


async def test_kill_9_while_sending_sends_again_with_the_same_key_and_url(
    penstock: Penstock, receiver: Receiver, connection: Connection
) -> None:
    await penstock.start_gateway()
    runner = await penstock.start_runner()
    receiver.replies = [Reply(202, hang=30)]
    run_id = await trigger(penstock, "elsewhere", url=receiver.url)
    await receiver.got(1)
    await runner.end(signal.SIGKILL)
    await penstock.start_runner()

    first, second = await receiver.got(2)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    assert await connection.fetchval("SELECT count(*) FROM signals") == 1
    await call_back(first.json["callback_url"], "{}")
    assert (await penstock.ended(run_id))["state"] == "success"


async def test_one_penstock_triggers_another_and_waits(
    penstock: Penstock, servers: EmbeddedServers, other_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with Penstock(
        database_url=other_database_url,
        redis_url=servers.redis_url,
        directory=tmp_path / "other",
        pipelines=FLOWS,
        outgoing_allow="127.0.0.0/8",
    ) as other:
        await asyncio.gather(penstock.start_gateway(), other.start())
        runner = await penstock.start_runner()
        there = {"url": other.url, "key": KEY}

        run_id = await trigger(penstock, "other_penstock", **there)
        assert (await penstock.ended(run_id))["state"] == "success"
        [run] = (await other.client.get("/v1/runs")).json()["items"]
        assert (run["pipeline_id"], run["run_key"], run["parent_id"]) == ("quick", f"{run_id}:trigger", None)

        failed = await penstock.ended(await trigger(penstock, "other_penstock", pipeline="breaks", **there))
        assert failed["error"]["type"] == "RemoteFailed"
        assert "failed: ValueError: no <rows> & nothing" in failed["error"]["message"]

        waiting = await trigger(penstock, "other_penstock", pipeline="lingering", **there)
        remote = await eventually(lambda: _only_active(other), timeout=10)
        await runner.end(signal.SIGKILL)
        await penstock.start_runner()
        await eventually(lambda: _is(penstock, waiting, "running"), timeout=10)
        await other.client.post(f"/v1/runs/{remote}/cancel")
        assert (await penstock.ended(waiting))["error"]["message"] == "the other system says cancelled"
        assert len((await other.client.get("/v1/runs")).json()["items"]) == 3


async def test_a_penstock_that_was_asked_already_names_the_run_and_knows_its_parent(outgoing: Penstock) -> None:
    parent = await trigger(outgoing, "other_penstock", url=outgoing.url, key=KEY)
    assert (await outgoing.ended(parent))["state"] == "success"
    child = next(
        run for run in (await outgoing.client.get("/v1/runs")).json()["items"] if run["pipeline_id"] == "quick"
    )
    assert (child["origin"], child["parent_id"]) == ("run", parent)
    assert "/***/***" in child["callback_url"]

    taken = {"status": 409, "run_id": child["id"], "detail": "it exists"}
    async with Receiver(lambda _: Reply(409, body=json.dumps(taken).encode())) as receiver:
        run_id = await trigger(outgoing, "other_penstock", url=receiver.url, key=KEY)
        [asked] = await receiver.got(1)
        await call_back(asked.json["callback_url"], '{"type": "run.success", "data": {"state": "success"}}')
        assert (await outgoing.ended(run_id))["state"] == "success"


async def test_an_airflow_is_asked_in_its_own_words(outgoing: Penstock) -> None:
    def trigger_dag(asked: Received) -> Reply:
        known = asked.method == "POST" and asked.path == "/api/v2/dags/daily%20load/dagRuns"
        return Reply(200 if known and asked.headers["authorization"] == "Bearer jwt" else 404)

    async with Receiver(trigger_dag) as airflow:
        run_id = await trigger(outgoing, "other_airflow", url=airflow.url)
        [asked] = await airflow.got(1)
        conf = asked.json["conf"]
        assert asked.json == {
            "conf": {"day": "2026-03-01", "callback_url": conf["callback_url"]},
            "logical_date": None,
            "dag_run_id": f"{run_id}:dag",
        }
        await call_back(conf["callback_url"], '{"state": "failed", "dag_run_id": "x"}')
        assert (await outgoing.ended(run_id))["error"]["message"] == "the other system says failed"


async def test_the_token_of_an_answer_is_nowhere(
    penstock: Penstock, receiver: Receiver, connection: Connection
) -> None:
    gateway, runner = await penstock.start(access_log="all", log_level="debug")
    run_id = await trigger(penstock, "elsewhere", url=receiver.url)
    [asked] = await receiver.got(1)
    url = asked.json["callback_url"]
    await call_back(url, "{}")
    await penstock.ended(run_id)

    token = url.rpartition("/")[2]
    assert token not in gateway.log + runner.log
    for table in ("signals", "runs", "changes", "logs", "block_runs", "callbacks"):
        assert not await connection.fetchval(f"SELECT count(*) FROM {table} t WHERE strpos(t::text, $1) > 0", token)


async def _is(penstock: Penstock, run_id: str, state: str) -> bool:
    return bool((await penstock.run(run_id))["state"] == state)


async def _only_active(penstock: Penstock) -> str | None:
    items = (await penstock.client.get("/v1/runs", params={"state": "running"})).json()["items"]
    return items[0]["id"] if items else None
