"""Where a key may be: each reader finds it there, and whatever else is there is no key and no error."""

import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, Response, post
from litestar.di import Provide

from gateway import credentials
from gateway.access import AccessLog
from gateway.auth import BEARER, Keys, basic_password, bearer, header, member, needs, parameter, provide_caller
from gateway.bodies import read_body
from gateway.errors import Problem, exception_handlers
from gateway.handling import TheCaller
from gateway.registry import Registry
from schemas.ids import new_id
from schemas.states import Role
from schemas.store import keys
from schemas.store.db import Database
from tests.captured_logs import captured_logs

KEY = "psk_a-key-of-somebody-who-may-call"
BODY = json.dumps({"api_key": KEY, "pipeline_run": {"variables": {}}}).encode()
ANYWHERE = Keys(
    (basic_password, bearer, header("x-api-key"), parameter("api_key"), member("api_key")), 'Basic realm="Penstock"'
)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@post("/anywhere", guards=[needs(Role.VIEWER, ANYWHERE)], status_code=200)
async def anywhere(request: Request[Any, Any, Any], caller: TheCaller) -> bytes:
    return caller.name.encode() + b" " + await read_body(request, 10_000)


@post("/small", guards=[needs(Role.VIEWER, ANYWHERE)], status_code=200)
async def small(request: Request[Any, Any, Any]) -> bytes:
    return await read_body(request, 10)


@post("/bearer", guards=[needs(Role.OPERATOR, BEARER)])
async def only_bearer() -> None: ...


def shape(problem: Problem) -> Response[bytes]:
    told = problem.detail.encode() if problem.has_key else b"no key"
    return Response(told, status_code=problem.status, headers=dict(problem.headers))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_logs() as log:
        yield log


@pytest.fixture
async def client(db: Database, log: io.StringIO) -> AsyncIterator[httpx.AsyncClient]:
    await keys.create(
        db, new_id(), name="somebody", role=Role.VIEWER, digest=credentials.digest(KEY), hint=credentials.hint(KEY)
    )
    app = Litestar(
        [anywhere, small, only_bearer],
        dependencies={"caller": Provide(provide_caller, sync_to_thread=False)},
        exception_handlers=exception_handlers({"/anywhere": shape, "/small": shape}),
        logging_config=None,
        openapi_config=None,
    )
    app.state.core = SimpleNamespace(registry=Registry(db, hold_s=1))
    transport = httpx.ASGITransport(AccessLog(app, mode="all"))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {"authorization": f"Bearer {KEY}"}},
        {"headers": {"authorization": basic(f"anybody:{KEY}")}},
        {"headers": {"authorization": basic(f":{KEY}")}},
        {"headers": {"x-api-key": KEY}},
        {"params": {"api_key": KEY}},
        {"content": BODY},
        {"content": BODY, "params": {"api_key": "the constant that is shipped with a product"}},
        {"headers": {"authorization": f"Bearer {KEY}"}, "params": {"api_key": "psk_that-nobody-ever-had"}},
    ],
)
async def test_a_key_counts_wherever_the_api_looks_for_it(
    request_: dict[str, Any], client: httpx.AsyncClient, log: io.StringIO
) -> None:
    answer = await client.post("/anywhere", **request_)

    assert (answer.status_code, answer.content) == (200, b"somebody " + request_.get("content", b""))
    assert '"path":"/anywhere"' in log.getvalue()
    assert KEY[4:] not in log.getvalue()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"headers": {"authorization": KEY}},
        {"headers": {"authorization": "Basic"}},
        {"headers": {"authorization": "Basic not base64!"}},
        {"headers": {"authorization": "Basic /////w=="}},
        {"headers": {"authorization": basic("no colon")}},
        {"headers": {"authorization": basic("anybody:")}},
        {"headers": {"x-api-key": " "}},
        {"params": {"api_key": ""}},
        {"content": b'{"api_key": 5}'},
        {"content": b'{"api_key": ""}'},
        {"content": b"[1]"},
        {"content": b'{"api_key'},
        {"content": b'{"api_key": "\xff"}'},
        {"content": b'{"api_key": ' + b"[" * 10_000},
    ],
)
async def test_what_is_no_key_is_asked_for_one(request_: dict[str, Any], client: httpx.AsyncClient) -> None:
    answer = await client.post("/anywhere", **request_)

    assert (answer.status_code, answer.text) == (401, "no key")
    assert answer.headers["www-authenticate"] == 'Basic realm="Penstock"'


async def test_an_unknown_key_is_told_from_none(client: httpx.AsyncClient) -> None:
    answer = await client.post("/anywhere", headers={"authorization": "Bearer psk_that-nobody-ever-had"})

    assert (answer.status_code, answer.text) == (401, "This API key is not known, or was revoked.")
    assert answer.headers["www-authenticate"] == 'Basic realm="Penstock"'


async def test_a_handler_keeps_its_own_limit_of_a_body_that_was_looked_into(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield BODY

    assert (await client.post("/small", content=BODY)).status_code == 413
    assert (await client.post("/small", content=chunks())).status_code == 413


async def test_a_key_counts_only_where_the_api_looks_for_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/bearer", params={"api_key": KEY}, headers={"x-api-key": KEY}, content=BODY)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_role_counts_wherever_the_key_was(client: httpx.AsyncClient) -> None:
    answer = await client.post("/bearer", headers={"authorization": f"bearer {KEY}"})

    assert answer.status_code == 403
    assert answer.json()["detail"] == "This needs the role operator; the key 'somebody' has the role viewer."


async def test_a_socket_has_no_body_to_look_into() -> None:
    socket: Any = SimpleNamespace()

    assert await member("api_key")(socket) is None
