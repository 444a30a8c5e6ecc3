"""The roles of our keys count in every dialect: each route wants a key, and lets in no smaller role than it says."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from gateway import dialects
from gateway.dialects import Route, routes
from schemas.states import Role
from tests.sockets import opened
from tests.system import Penstock

UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"
ROUTES = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for dialect in dialects.discover().values()
    for route in routes(dialect)
    if route.role is not None and route.method != "WEBSOCKET"
]
SOCKETS = [
    pytest.param(route, id=route.path)
    for dialect in dialects.discover().values()
    for route in routes(dialect)
    if route.role is not None and route.method == "WEBSOCKET"
]


@pytest.fixture(scope="module")
async def keys(shared: Penstock) -> AsyncIterator[dict[Role, str]]:
    """A key of each role."""
    made = [(await shared.client.post("/v1/keys", json={"name": role, "role": role})).json() for role in Role]
    yield {Role(key["role"]): key["key"] for key in made}
    for key in made:
        await shared.client.delete(f"/v1/keys/{key['id']}")


async def call(shared: Penstock, route: Route, authorization: str) -> httpx.Response:
    """Call a route for what does not exist, with a body that changes nothing."""
    body = {} if route.method in ("GET", "DELETE") else {"json": {"wrong": "on purpose"}}
    path = re.sub(r"\{[^}]*\}", UNKNOWN, route.path)
    return await shared.client.request(route.method, path, headers={"authorization": authorization}, **body)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_lets_in_the_role_that_it_says_and_no_smaller_one(
    route: Route, keys: dict[Role, str], shared: Penstock
) -> None:
    for role, key in keys.items():
        answer = await call(shared, route, f"Bearer {key}")
        if role.covers(Role(route.role or "")):
            assert answer.status_code not in (401, 403, 500), (role, answer.text)
        else:
            assert answer.status_code == 403, (role, answer.text)


@pytest.mark.parametrize("route", ROUTES)
async def test_without_a_key_there_is_nothing_to_see(route: Route, shared: Penstock) -> None:
    answer = await call(shared, route, "")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"]


@pytest.mark.parametrize("route", SOCKETS)
async def test_a_socket_opens_for_the_role_that_it_says_and_for_no_smaller_one(
    route: Route, keys: dict[Role, str], shared: Penstock
) -> None:
    for role, key in keys.items():
        status = await status_of_upgrade(shared, route, f"Bearer {key}")
        assert status == (101 if role.covers(Role(route.role or "")) else 403), role
    assert await status_of_upgrade(shared, route, "") == 401


async def status_of_upgrade(shared: Penstock, route: Route, authorization: str) -> int:
    try:
        async with opened(shared.url, path=route.path, additional_headers={"authorization": authorization}):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code
