"""`/v1/ws`: who may, and what becomes of peers that are mistaken or hostile."""

import asyncio
import contextlib
import json

import pytest
from websockets.exceptions import InvalidStatus

from tests.faults import trigger
from tests.sockets import BEARER, closed, hear, opened, raw_socket, say, told
from tests.system import KEY, Json, Penstock
from tests.test_promises_streams import resident_mb
from tests.waiting import eventually

# Who may


async def test_a_browser_shows_its_key_in_the_first_message(shared: Penstock) -> None:
    run_id = await trigger(shared, "quick")
    anywhere = {"additional_headers": {}, "origin": "https://dashboard.example.org"}
    async with opened(shared.url, f"?topics=run:{run_id}", **anywhere) as ws:
        await say(ws, op="auth", key=KEY)
        heard = await told(ws)

    assert heard[0] == {"type": "subscribed", "topics": [f"run:{run_id}"]}
    assert heard[-1]["state"] == "success"


@pytest.mark.parametrize(
    "message",
    [
        {"op": "auth", "key": "psk_this-is-no-key-at-all"},
        {"op": "auth", "key": ""},
        {"op": "subscribe", "topics": ["runs"]},
        {"op": "ping"},
    ],
)
async def test_whoever_shows_no_key_that_we_know_is_sent_away(shared: Penstock, message: Json) -> None:
    async with opened(shared.url, "?topics=runs", additional_headers={}) as ws:
        await say(ws, **message)
        code, reason = await closed(ws)

    assert (code, bool(reason)) == (4401, True)


async def test_nothing_is_told_before_a_key_came(shared: Penstock) -> None:
    run_id = await trigger(shared, "quick")
    await shared.ended(run_id)
    async with opened(shared.url, f"?topics=run:{run_id}", additional_headers={}) as ws:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await ws.recv()


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({"authorization": "Bearer psk_wrong-key-wrong-key"}, "", 401, "unauthenticated"),
        ({"authorization": "Basic abc"}, "", 401, "unauthenticated"),
        (BEARER | {"origin": "https://evil.example.org"}, "", 403, "forbidden"),
        (BEARER, "?topics=weather", 422, "invalid"),
        (BEARER, "?topics=run:0198c0de-0000-7000-8000-000000000000", 404, "not_found"),
        (BEARER, "?topics=runs&after=nonsense", 422, "invalid"),
        (BEARER, "?topics=runs&after=17", 422, "invalid"),
        (BEARER, "?topics=" + ",".join(f"run:{n}" for n in range(101)), 422, "invalid"),
    ],
)
async def test_what_cannot_be_is_refused_before_the_upgrade(
    shared: Penstock, headers: dict[str, str], query: str, status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(shared.url, query, additional_headers=headers):
            pass

    answer = refused.value.response
    problem = json.loads(answer.body or b"")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["status"], problem["type"]) == (status, f"/problems/{code}")
    assert answer.headers["x-request-id"]


async def test_our_own_origin_may_use_a_header(shared: Penstock) -> None:
    async with opened(shared.url, additional_headers=BEARER, origin=shared.url) as ws:
        assert (await hear(ws))["type"] == "subscribed"


async def test_no_secret_that_came_over_a_socket_is_logged(penstock: Penstock) -> None:
    gateway = await penstock.start_gateway(log_level="debug", access_log="all")
    async with opened(penstock.url, f"?topics=runs&token={KEY}", additional_headers={}) as ws:
        await say(ws, op="auth", key=KEY)
        await hear(ws)
    async with opened(penstock.url) as ws:
        await say(ws, op="auth", key=KEY)
        await hear(ws)

    await eventually(lambda: gateway.log.count('"path":"/v1/ws"') == 2)
    assert KEY not in gateway.log
    assert '"status":101' in gateway.log


# Hostile and mistaken peers


async def test_a_mistake_is_explained_and_the_socket_stays_open(shared: Penstock) -> None:
    async with opened(shared.url) as ws:
        await hear(ws)
        for message in ("{", '{"op":"dance"}', '{"op":"subscribe"}', b"\x00"):
            await ws.send(message)
            assert (await hear(ws))["type"] == "error"
        await say(ws, op="subscribe", topics=["run:0198c0de-0000-7000-8000-000000000000"])
        assert (await hear(ws))["code"] == "not_found"
        await say(ws, op="subscribe", topics=["runs"], after="7")
        assert (await hear(ws))["code"] == "invalid"
        await say(ws, op="ping")
        assert await hear(ws) == {"type": "pong"}


async def test_a_peer_that_only_sends_nonsense_is_sent_away(shared: Penstock) -> None:
    async with opened(shared.url) as ws:
        for _ in range(5):
            await ws.send("[" * 1000)
        assert (await closed(ws))[0] == 1003


async def test_a_message_that_is_too_large_ends_the_socket(shared: Penstock) -> None:
    async with opened(shared.url) as ws:
        await ws.send("x" * (64 * 1024 + 1))
        assert (await closed(ws))[0] == 1009


async def test_one_socket_has_so_many_topics_and_no_more(shared: Penstock) -> None:
    async with opened(shared.url) as ws:
        await hear(ws)
        await say(ws, op="subscribe", topics=[f"pipeline:p{n}" for n in range(100)])
        assert len((await hear(ws))["topics"]) == 100
        await say(ws, op="subscribe", topics=["pipeline:one-more"])
        assert (await hear(ws))["code"] == "invalid"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["GET /v1/ws HTTP/1.1", "upgrade: websocket", "connection: upgrade"], b"HTTP/1.1 4"),
        (["GET /v1/ws HTTP/1.1", "upgrade: websocket", "connection: upgrade", "sec-websocket-key: x"], b"HTTP/1.1 4"),
        (["GET /v1/ws HTTP/1.1", "upgrade: websocket", "connection: upgrade", "x: " + "y" * 9000], b"HTTP/1.1 400"),
        (["POST /v1/ws HTTP/1.1", "upgrade: websocket", "connection: upgrade", "content-length: 0"], b"HTTP/1.1 40"),
        (["GET /v1/ws HTTP/1.1"], b"HTTP/1.1 40"),
        (["GET /nowhere HTTP/1.1", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13",
          "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="], b"HTTP/1.1 4"),
    ],
)  # fmt: skip
async def test_a_handshake_that_is_none_gets_a_clear_answer(shared: Penstock, lines: list[str], answer: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shared.port)
    writer.write("\r\n".join([*lines, "host: x", "", ""]).encode())
    async with asyncio.timeout(15):
        assert (await reader.readline()).startswith(answer)
    writer.close()


async def test_a_flood_of_pings_that_nobody_reads_the_answers_of_costs_no_memory(penstock: Penstock) -> None:
    gateway = await penstock.start_gateway()
    async with raw_socket(penstock) as (_, writer):
        before = resident_mb(gateway)
        ping = b"\x89\xfd" + bytes(4) + bytes(125)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while True:
                    writer.write(ping * 500)
                    await writer.drain()
        assert resident_mb(gateway) - before < 20
        assert (await penstock.client.get("/health/live")).status_code == 200
