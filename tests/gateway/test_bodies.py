import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, Response, post

from gateway.bodies import decode_json, read_body, read_json, to_pointer
from gateway.errors import exception_handlers
from schemas.errors import Invalid, Malformed
from schemas.settings import MAX_BODY_LIMIT
from tests.captured_logs import captured_logs
from tests.gateway.raw_http import Answer, connected, read_answer, send, serving
from tests.waiting import eventually

LIMIT = 100_000
AnyRequest = Request[Any, Any, Any]


class Step(msgspec.Struct):
    id: str
    delay: float = 0.0


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    steps: list[Step] = []
    labels: dict[str, int] = {}


@post("/raw")
async def raw(request: AnyRequest) -> Response[bytes]:
    return Response(b"%d" % len(await read_body(request, LIMIT)), media_type="text/plain")


@post("/largest")
async def largest(request: AnyRequest) -> Response[bytes]:
    return Response(b"%d" % len(await read_body(request, MAX_BODY_LIMIT)), media_type="text/plain")


@post("/plan")
async def plan(request: AnyRequest) -> str:
    return (await read_json(request, Plan, limit=LIMIT)).name


@post("/optional-plan")
async def optional_plan(request: AnyRequest) -> str:
    return (await read_json(request, Plan, limit=LIMIT, default=Plan("default"))).name


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    with captured_logs() as log:
        yield log


@pytest.fixture(scope="module")
def port(log: io.StringIO) -> Iterator[int]:
    app: Any = Litestar(
        [raw, largest, plan, optional_plan],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=None,
    )
    with serving(app) as port:
        yield port


async def ask(port: int, path: str, body: bytes, *headers: bytes, chunked: bool = False) -> Answer:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = b"\r\n".join([b"POST %b HTTP/1.1" % path.encode(), b"Host: a", framing, *headers, b"", b""])
    async with connected(port) as (reader, writer):
        sending = asyncio.create_task(send(writer, [head, sent]))
        answer = await read_answer(reader)
        await sending
        return answer


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(port: int, *, chunked: bool) -> None:
    assert (await ask(port, "/raw", b"a" * LIMIT, chunked=chunked)).body == b"100000"
    answer = await ask(port, "/raw", b"a" * (LIMIT + 1), chunked=chunked)
    problem = json.loads(answer.body)
    assert answer.status == 413
    assert problem["limit"] == LIMIT
    assert "100000 bytes" in problem["detail"]


async def test_a_declared_length_is_refused_before_the_body_comes(port: int) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [b"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"])
        assert (await read_answer(reader)).status == 413


async def test_an_endless_chunked_body_is_refused_while_it_comes(port: int) -> None:
    async with connected(port) as (reader, writer):
        await send(writer, [b"POST /raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"])
        sending = asyncio.create_task(send(writer, [b"2710\r\n" + b"a" * 10_000 + b"\r\n"] * 100))
        assert (await read_answer(reader)).status == 413
        await sending


async def test_the_largest_allowed_body_passes_the_limits_of_the_framework(port: int) -> None:
    assert (await ask(port, "/largest", bytes(MAX_BODY_LIMIT))).body == str(MAX_BODY_LIMIT).encode()


async def test_an_encoded_body_is_kept_as_it_came(port: int) -> None:
    assert (await ask(port, "/raw", b"\x1f\x8b\x08", b"Content-Encoding: gzip")).body == b"3"


async def test_a_sender_that_hangs_up_leaves_no_error_in_the_log(port: int, log: io.StringIO) -> None:
    async with connected(port) as (_, writer):
        await send(writer, [b"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"])
    assert (await ask(port, "/raw", b"a")).status == 201

    def answered() -> bool:
        return "connection" not in log.getvalue()

    await eventually(answered)
    assert log.getvalue() == ""


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br"])
async def test_compressed_json_is_415(port: int, encoding: bytes) -> None:
    answer = await ask(port, "/plan", b"\x1f\x8b\x08", b"Content-Encoding: " + encoding)
    assert (answer.status, json.loads(answer.body)["type"]) == (415, "/problems/unsupported_media")


async def test_an_empty_body_is_the_default_or_invalid(port: int) -> None:
    assert (await ask(port, "/optional-plan", b"")).body == b"default"
    answer = await ask(port, "/plan", b"")
    assert answer.status == 422
    assert "JSON object is expected" in json.loads(answer.body)["detail"]


async def test_json_is_read_whatever_its_declared_type(port: int) -> None:
    answer = await ask(port, "/plan", b'{"name":"daily"}', b"Content-Type: application/x-www-form-urlencoded")
    assert answer.body == b"daily"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nothing",
        b'{"name": NaN}',
        b'{"name": "a"} b',
        b"\xef\xbb\xbf{}",
        b'{"name": "\xff"}',
        b'{"\xff": 1}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "steps": [{"id": "b", "extra": ' + b"[" * 10_000,
        b'{"name": "a", "steps": [{"id": "b", "extra": ' + b"[" * 10_000 + b"]" * 10_000 + b"}]}",
        b"\x00",
    ],
)
async def test_what_is_no_json_is_400(port: int, body: bytes) -> None:
    answer = await ask(port, "/plan", body)
    assert (answer.status, json.loads(answer.body)["type"]) == (400, "/problems/malformed")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"name": 1}', "/name"),
        ("[]", ""),
        ("null", ""),
        ("{}", ""),
        ('{"name": "a", "nmae": 1}', ""),
        ('{"name": "a", "steps": [{"id": "x"}, {"id": 2}]}', "/steps/1/id"),
        ('{"name": "a", "steps": [{}]}', "/steps/0"),
        ('{"name": "a", "steps": [{"id": "x", "delay": "1"}]}', "/steps/0/delay"),
        ('{"name": "a", "steps": [{"id": "x", "delay": 1e400}]}', "/steps/0/delay"),
        ('{"name": "a", "labels": {"b": "c"}}', "/labels"),
    ],
)
def test_json_of_the_wrong_shape_is_pointed_at(body: str, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_json(body.encode(), Plan)
    assert not isinstance(caught.value, Malformed)
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert error.message
    assert "$" not in error.message


@pytest.mark.parametrize(
    ("path", "pointer"),
    [("$", ""), ("$.a.b[0]", "/a/b/0"), ("$[3].x", "/3/x"), ("$.a[...].b", "/a"), ("$.a/b.c~d", "/a~1b/c~0d")],
)
def test_a_path_becomes_a_json_pointer(path: str, pointer: str) -> None:
    assert to_pointer(path) == pointer
