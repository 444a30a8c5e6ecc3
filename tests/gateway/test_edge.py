import asyncio
import gc
import inspect
import itertools
import json
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

from gateway.edge import GuardedProtocol
from tests.gateway.raw_http import connected, parse_answers, read_all, read_answer, send, serving, talk
from tests.waiting import eventually

HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Quick(GuardedProtocol):
    HEAD_S = 0.3
    BODY_S = 0.5
    LINGER_S = 0.3
    WRITE_S = 0.3
    MIN_RATE = 1000


class Watched(GuardedProtocol):
    alive: ClassVar[weakref.WeakSet[GuardedProtocol]] = weakref.WeakSet()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive.add(self)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await {"/echo": echo, "/early": early, "/stream": stream, "/flood": flood, "/large": large}[scope["path"]](
        scope, receive, send
    )


async def echo(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    await answer(send, json.dumps({"size": size, "headers": headers}).encode())


async def early(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"enough")


async def stream(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(30):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"event: end\n\n", "more_body": False})


async def flood(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await asyncio.sleep(0)


async def large(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, bytes(32 << 20))


async def answer(send: Any, body: bytes) -> None:
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(app) as port:
        yield port


@pytest.fixture(scope="module")
def quick() -> Iterator[int]:
    with serving(app, Quick) as port:
        yield port


MALFORMED = {
    "content-length and transfer-encoding": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two equal content-lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list as content-length": (HEAD + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "a signed content-length": (HEAD + b"Content-Length: +5\r\n\r\nhello", 400),
    "a content-length beyond 64 bits": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "a folded header": (HEAD + b"X: a\r\n b\r\n\r\n", 400),
    "bare line feeds": (b"GET /echo HTTP/1.1\nHost: a\n\n", 400),
    "a space before the colon": (HEAD + b"X : a\r\n\r\n", 400),
    "a NUL in a header": (HEAD + b"X: a\x00b\r\n\r\n", 400),
    "no host": (b"GET /echo HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + b"Host: b\r\n\r\n", 400),
    "a host with a path": (b"GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a host with user info": (b"GET /echo HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /echo HTTP/0.9\r\n\r\n", 400),
    "HTTP/0.9 without a version": (b"GET /echo\r\n\r\n", 400),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "transfer-encoding in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another transfer-encoding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk size that is no number": (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", 400),
    "a negative chunk size": (CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk size beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400),
    "an unknown method": (b"BREW /echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an address without a path": (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an address that is not ASCII": (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a NUL in the address": (b"GET /echo%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "101 headers": (HEAD + b"X: a\r\n" * 100 + b"\r\n", 431),
    "20,000 headers": (HEAD + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    "a header of 40 KB": (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "a header of 2 MB": (HEAD + b"X: " + b"a" * 2_000_000 + b"\r\n\r\n", 431),
    "an address of 40 KB": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    "a trailer of 2 MB": (CHUNKED + b"0\r\nX: " + b"a" * 2_000_000, 431),
    "a trailer saved up by small chunks": (CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\nX: " + b"a" * 600_000, 431),
    "an upgrade with a chunked body": (
        CHUNKED.replace(b"Host", b"Connection: upgrade\r\nUpgrade: websocket\r\nHost") + b"0\r\nX: a\r\n\r\n",
        400,
    ),
    "a chunk extension of 2 MB": (CHUNKED + b"5;x=" + b"a" * 2_000_000, 431),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_request_that_breaks_a_rule_gets_one_problem_and_a_closed_connection(port: int, case: str) -> None:
    request, status = MALFORMED[case]
    (refusal,) = await parse_answers(await talk(port, request))
    assert refusal.status == status
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["connection"] == "close"
    assert json.loads(refusal.body)["status"] == status


WELL_FORMED = {
    "the least": GET,
    "HTTP/1.0 without host": b"GET /echo HTTP/1.0\r\n\r\n",
    "an address with the host": b"GET http://a:80/echo HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "a host in brackets": b"GET /echo HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "an empty host": b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n",
    "98 further headers": HEAD + b"X: a\r\n" * 98 + b"Content-Length: 0\r\n\r\n",
    "a header of 30 KB": HEAD + b"X: " + b"a" * 30_000 + b"\r\n\r\n",
    "one byte chunks": CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n",
    "a body of 8 MB": HEAD + b"Content-Length: 8000000\r\n\r\n" + bytes(8_000_000),
    "an upgrade to HTTP/2": HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("case", WELL_FORMED)
async def test_an_unusual_but_valid_request_is_served(port: int, case: str) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [WELL_FORMED[case]])
        assert (await read_answer(reader)).status == 200


async def test_a_head_that_comes_byte_by_byte_is_served(port: int) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [bytes([byte]) for byte in GET], pause=0.001)
        assert (await read_answer(reader)).status == 200


async def test_trailers_do_not_become_headers(port: int) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [CHUNKED + b"5\r\nhello\r\n0\r\nAuthorization: Bearer forged\r\n\r\n"])
        seen = json.loads((await read_answer(reader)).body)
    assert seen["size"] == 5
    assert [name for name, _ in seen["headers"]] == ["host", "transfer-encoding"]


async def test_a_client_that_asks_before_it_sends_is_told_to_continue(port: int) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"])
        assert (await read_answer(reader)).status == 100
        await send(writer, [b"hello"])
        assert json.loads((await read_answer(reader)).body)["size"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("start", [HEAD + b"X: ", CHUNKED + b"0\r\nX: ", CHUNKED + b"5;x=", b"GET /"])
async def test_an_endless_head_does_not_grow_memory(port: int, start: bytes) -> None:
    before = resident_bytes()
    part = b"a" * (1 << 18)
    received = await talk(port, start, *itertools.repeat(part, 256))
    assert resident_bytes() - before < 8 << 20
    assert received.startswith(b"HTTP/1.1 431 ")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_an_idle_connection_is_closed_without_a_word(quick: int) -> None:
    assert await talk(quick) == b""


@pytest.mark.parametrize(
    ("chunks", "pause"),
    [
        ([b"POST /echo HT"], 0.0),
        ([HEAD + b"X: "], 0.0),
        ([HEAD, *[b"X: a\r\n"] * 60], 0.05),
        ([HEAD + b"Content-Length: 100\r\n\r\n" + b"a" * 10], 0.0),
        ([CHUNKED + b"5\r\nhel"], 0.0),
        ([HEAD + b"Content-Length: 100\r\n\r\n", *[b"a"] * 60], 0.05),
    ],
    ids=[
        "part of a line",
        "part of a head",
        "a drip of headers",
        "part of a body",
        "part of a chunk",
        "a drip of body",
    ],
)
async def test_a_request_that_does_not_arrive_in_time_gets_408(quick: int, chunks: list[bytes], pause: float) -> None:
    (refusal,) = await parse_answers(await talk(quick, *chunks, pause=pause))
    assert refusal.status == 408
    assert json.loads(refusal.body)["title"] == "Request Timeout"


async def test_line_ends_between_requests_do_not_keep_a_connection(quick: int) -> None:
    received = await talk(quick, GET, *[b"\r\n"] * 60, pause=0.05)
    assert [answer.status for answer in await parse_answers(received)] == [200]


async def test_a_slow_but_steady_upload_may_take_longer_than_the_deadline(quick: int) -> None:
    async with connected(quick) as (reader, writer):
        await send(writer, [HEAD + b"Content-Length: 8000\r\n\r\n"])
        await send(writer, [b"a" * 400] * 20, pause=0.05)
        assert json.loads((await read_answer(reader)).body)["size"] == 8000


async def test_a_stream_outlives_every_deadline(quick: int) -> None:
    received = await talk(quick, b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert received.count(b"data: ") == 30
    assert b"event: end" in received


async def test_a_kept_connection_may_pause_between_requests(quick: int) -> None:
    async with connected(quick) as (reader, writer):
        for _ in range(3):
            await send(writer, [GET], pause=Quick.HEAD_S * 1.5)
            assert (await read_answer(reader)).status == 200


async def test_the_deadline_holds_for_the_second_head_too(quick: int) -> None:
    received = await talk(quick, GET, HEAD, pause=0.1)
    assert [answer.status for answer in await parse_answers(received)] == [200, 408]


async def test_idle_kept_connections_are_closed_by_the_keep_alive_time() -> None:
    with serving(app, keep_alive=1) as port:
        assert [answer.status for answer in await parse_answers(await talk(port, GET))] == [200]


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    async with connected(port) as (reader, writer):
        bodies = [b"a" * size for size in (3, 70_000, 0, 5)]
        await send(writer, [b"".join(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies)])
        sizes = [json.loads((await read_answer(reader)).body)["size"] for _ in bodies]
    assert sizes == [3, 70_000, 0, 5]


async def test_a_bad_request_behind_a_good_one_does_not_take_its_answer(port: int) -> None:
    answers = await parse_answers(await talk(port, GET + b"GET /echo HTTP/1.1\r\n\r\n"))
    assert [(answer.status, answer.headers["connection"]) for answer in answers] == [(200, "close")]


async def test_a_long_pipeline_is_cut_and_not_collected(port: int) -> None:
    answers = await parse_answers(await talk(port, GET * 5000))
    assert [answer.status for answer in answers] == [200] * (GuardedProtocol.PIPELINE + 1)


async def test_the_rest_of_an_answered_upload_is_read_for_a_while_only(quick: int) -> None:
    start = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    async with connected(quick) as (reader, writer):
        sending = asyncio.create_task(send(writer, itertools.chain([start], itertools.repeat(b"a" * 100)), pause=0.01))
        assert (await read_answer(reader)).body == b"enough"
        assert await asyncio.wait_for(read_all(reader), 10) == b""
        await asyncio.wait_for(sending, 10)


async def test_a_client_that_does_not_read_is_cut_off(quick: int) -> None:
    async with connected(quick) as (reader, writer):
        await send(writer, [b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n"])
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(Quick.WRITE_S * 3)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(drain(reader), 10)


async def test_a_client_that_reads_slowly_gets_all(quick: int) -> None:
    async with connected(quick) as (reader, writer):
        await send(writer, [b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
        assert await drain(reader, pause=0.01) > 32 << 20


async def drain(reader: asyncio.StreamReader, *, pause: float = 0.0) -> int:
    size = 0
    try:
        while part := await reader.read(1 << 18):
            size += len(part)
            await asyncio.sleep(pause)
    except OSError:
        return size
    return size


async def test_a_closed_connection_leaves_no_timer_behind() -> None:
    with serving(app, Watched) as port:
        for chunks in ([GET], [HEAD], [CHUNKED + b"5\r\nhe"], [GET + HEAD], [b"GET /\r\n\r\n"]):
            async with connected(port) as (reader, writer):
                await send(writer, chunks)
                await eventually(lambda: len(Watched.alive) > 0)
                if chunks[0].startswith(GET):
                    await read_answer(reader)
        assert GuardedProtocol.HEAD_S > 5  # a forgotten timer would hold its connection for longer than we wait

        def all_gone() -> bool:
            gc.collect()
            return not Watched.alive

        await eventually(all_gone, timeout=5)


def test_what_we_rely_on_in_uvicorn_is_there() -> None:
    protocol = httptools_impl.HttpToolsProtocol
    for name in (
        *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"),
        *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
        *("handle_websocket_upgrade", "timeout_keep_alive_handler"),
        *("_should_upgrade", "_unset_keepalive_if_required"),
    ):
        assert callable(getattr(protocol, name)), name
    attributes = inspect.getsource(protocol.__init__) + inspect.getsource(protocol.on_message_begin)
    for name in ("parser", "cycle", "pipeline", "headers", "url", "flow", "transport", "loop", "server_state"):
        assert f"self.{name}" in attributes, name
    cycle = inspect.getsource(httptools_impl.RequestResponseCycle.__init__)
    for name in ("disconnected", "keep_alive", "message_event", "response_started", "response_complete"):
        assert f"self.{name} = " in cycle, name
    assert "self.read_paused" in inspect.getsource(FlowControl.__init__)
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    assert "self.parser.feed_data(data)" in inspect.getsource(protocol.data_received)
