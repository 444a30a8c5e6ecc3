"""Who may do what: each route of `/v1` wants a key, and a role that covers it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.problems import problem
from tests.system import Penstock

ROLES = ["viewer", "operator", "editor", "admin"]
UNKNOWN = "0198f0a0-0000-7000-8000-000000000001"
_OF_A_BLOCK = ("attempts", "preview", "profile", "output")
SMALLEST = [
    ("GET", "/v1/pipelines", "viewer"),
    ("GET", "/v1/pipelines/quick", "viewer"),
    ("PATCH", "/v1/pipelines/quick", "operator"),
    ("POST", "/v1/pipelines/quick/runs", "operator"),
    ("GET", "/v1/schedules", "viewer"),
    ("POST", "/v1/schedules", "editor"),
    ("GET", f"/v1/schedules/{UNKNOWN}", "viewer"),
    ("PATCH", f"/v1/schedules/{UNKNOWN}", "editor"),
    ("DELETE", f"/v1/schedules/{UNKNOWN}", "editor"),
    ("GET", f"/v1/schedules/{UNKNOWN}/tokens", "viewer"),
    ("POST", f"/v1/schedules/{UNKNOWN}/tokens", "editor"),
    ("POST", f"/v1/schedules/{UNKNOWN}/tokens/imported", "editor"),
    ("POST", f"/v1/schedules/{UNKNOWN}/links", "editor"),
    ("GET", f"/v1/schedules/{UNKNOWN}/next", "viewer"),
    ("GET", "/v1/scheduler", "viewer"),
    ("GET", "/v1/timetable", "viewer"),
    ("DELETE", f"/v1/tokens/{UNKNOWN}", "editor"),
    ("POST", f"/v1/tokens/{UNKNOWN}/rotate", "editor"),
    ("GET", "/v1/keys", "admin"),
    ("POST", "/v1/keys", "admin"),
    ("DELETE", f"/v1/keys/{UNKNOWN}", "admin"),
    ("GET", "/v1/runs", "viewer"),
    ("GET", f"/v1/runs/{UNKNOWN}", "viewer"),
    ("POST", f"/v1/runs/{UNKNOWN}/cancel", "operator"),
    ("POST", f"/v1/runs/{UNKNOWN}/resume", "operator"),
    ("POST", f"/v1/runs/{UNKNOWN}/rerun", "operator"),
    ("POST", f"/v1/runs/{UNKNOWN}/mark", "operator"),
    ("GET", f"/v1/runs/{UNKNOWN}/logs/export", "viewer"),
    ("GET", "/v1/audit", "admin"),
    ("GET", f"/v1/runs/{UNKNOWN}/logs", "viewer"),
    ("GET", f"/v1/runs/{UNKNOWN}/stream", "viewer"),
    ("GET", "/v1/stream?topics=nothing", "viewer"),
    ("GET", "/v1/events", "viewer"),
    ("GET", f"/v1/events/{UNKNOWN}", "viewer"),
    ("GET", f"/v1/events/{UNKNOWN}/body", "viewer"),
    ("POST", f"/v1/events/{UNKNOWN}/replay", "operator"),
    ("POST", "/v1/events/replay", "operator"),
    ("GET", "/v1/replays", "viewer"),
    ("GET", f"/v1/replays/{UNKNOWN}", "viewer"),
    ("POST", f"/v1/replays/{UNKNOWN}/cancel", "operator"),
    ("GET", f"/v1/events/{UNKNOWN}/explain", "viewer"),
    ("GET", "/v1/callbacks", "viewer"),
    ("GET", "/v1/callbacks/signing-secrets", "admin"),
    ("GET", f"/v1/callbacks/{UNKNOWN}", "viewer"),
    ("POST", f"/v1/callbacks/{UNKNOWN}/resend", "operator"),
    ("GET", "/v1/calendar", "viewer"),
    ("GET", "/v1/dashboard", "viewer"),
    ("GET", "/v1/lineage", "viewer"),
    ("GET", f"/v1/runs/{UNKNOWN}/lineage", "viewer"),
    ("GET", "/v1/search", "viewer"),
    ("GET", "/v1/system", "viewer"),
    ("POST", "/v1/purge", "admin"),
    ("GET", "/v1/purges", "admin"),
    ("GET", f"/v1/purges/{UNKNOWN}", "admin"),
    ("POST", "/v1/pipelines/quick/dry-run", "operator"),
    ("POST", "/v1/pipelines/quick/backfills", "operator"),
    ("GET", "/v1/backfills", "viewer"),
    ("GET", f"/v1/backfills/{UNKNOWN}", "viewer"),
    ("PATCH", f"/v1/backfills/{UNKNOWN}", "operator"),
    ("POST", f"/v1/backfills/{UNKNOWN}/pause", "operator"),
    ("POST", f"/v1/backfills/{UNKNOWN}/unpause", "operator"),
    ("POST", f"/v1/backfills/{UNKNOWN}/cancel", "operator"),
    *(("GET", f"/v1/runs/{UNKNOWN}/blocks/quick/{what}", "viewer") for what in _OF_A_BLOCK),
    ("GET", "/metrics", "viewer"),
]


@pytest.fixture(scope="module")
async def clients(shared: Penstock) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """A client per role."""
    opened = {}
    for role in ROLES:
        key = (await shared.client.post("/v1/keys", json={"name": f"the {role}", "role": role})).json()["key"]
        opened[role] = httpx.AsyncClient(
            base_url=shared.url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=30
        )
    yield opened
    for client in opened.values():
        await client.aclose()


@pytest.mark.parametrize(("method", "path", "smallest"), SMALLEST)
async def test_a_role_may_do_what_smaller_ones_may_and_no_more(
    method: str, path: str, smallest: str, clients: dict[str, httpx.AsyncClient]
) -> None:
    body = {"json": {"is_paused": "wrong on purpose, so that nothing changes"}} if method in ("POST", "PATCH") else {}
    for role, client in clients.items():
        answer = await client.request(method, path, **body)
        if ROLES.index(role) < ROLES.index(smallest):
            detail = problem(answer, 403, "forbidden")
            assert detail == f"This needs the role {smallest}; the key 'the {role}' has the role {role}."
        else:
            assert answer.status_code not in (401, 403, 500)


async def test_the_table_above_is_complete(shared: Penstock) -> None:
    """Every route that the gateway describes is there, but for those that are open to everyone."""
    described = (await shared.client.get("/openapi.json")).json()["paths"]
    routes = {
        (method.upper(), path)
        for path, methods in described.items()
        for method in methods
        if method in ("get", "post", "put", "patch", "delete")
        if not path.startswith(("/callbacks", "/health", "/hooks", "/openapi"))
    }
    pattern = {
        (method, path.partition("?")[0].replace("quick", "{}").replace(UNKNOWN, "{}")) for method, path, _ in SMALLEST
    }
    assert {(method, _without_names(path)) for method, path in routes} == pattern


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in SMALLEST])
async def test_without_a_key_there_is_nothing_to_see(method: str, path: str, shared: Penstock) -> None:
    answer = await shared.client.request(method, path, headers={"authorization": ""})

    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer psk_" + "0" * 49,
        "Bearer",
        "Basic cHNrX2FkbWluLWtleS1vZi10aGUtdGVzdHM=",
        "psk_admin-key-of-the-tests",
        "Bearer psk_admin-key-of-the-test",
        "Bearer PSK_ADMIN-KEY-OF-THE-TESTS",
        "Bearer psk_admin-key-of-the-tests, Bearer psk_admin-key-of-the-tests",
    ],
)
async def test_a_wrong_key_is_no_key(authorization: str, shared: Penstock) -> None:
    answer = await shared.client.get("/v1/runs", headers={"authorization": authorization})

    problem(answer, 401, "unauthenticated")
    assert "admin-key" not in answer.text


async def test_the_word_bearer_is_read_in_any_case(shared: Penstock) -> None:
    answer = await shared.client.get("/v1/runs", headers={"authorization": "bEARER psk_admin-key-of-the-tests"})

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json"])
async def test_what_is_open_is_open_to_everyone(path: str, shared: Penstock) -> None:
    assert (await shared.client.get(path, headers={"authorization": ""})).status_code == 200


async def test_a_token_is_no_api_key_and_an_api_key_is_no_token(shared: Penstock) -> None:
    hook = await shared.hook("quick")
    token = hook.rpartition("/")[2]

    assert (await shared.client.get("/v1/runs", headers={"authorization": f"Bearer {token}"})).status_code == 401
    assert (await shared.client.post(hook.replace(token, "psk_admin-key-of-the-tests"))).status_code == 404


def _without_names(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
