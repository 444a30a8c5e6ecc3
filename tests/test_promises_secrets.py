"""G14: a token is shown once, when it is made; after whatever is done with it, nobody finds it anywhere else."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from gateway import credentials
from gateway.embedded import EmbeddedServers
from tests.faults import FLOWS, Connection
from tests.system import KEY, Json, Penstock
from tests.waiting import eventually

SIGNING_KEYS = ("first-key-that-signs", "second-key-that-signs")


@pytest.fixture
async def penstock(servers: EmbeddedServers, database_url: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    settings = {"access_log": "all", "log_level": "debug", "secret_keys": ",".join(SIGNING_KEYS)}
    async with Penstock(
        database_url=database_url, redis_url=servers.redis_url, directory=tmp_path, pipelines=FLOWS, **settings
    ) as system:
        yield system


class Spy:
    """Keeps every answer of a Penstock, except those that are the one place where a secret is shown."""

    def __init__(self, penstock: Penstock) -> None:
        self.answers: list[str] = []
        self._penstock = penstock

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Send a request with the admin key, and keep what it answers."""
        answer = await self._penstock.client.request(method, path, **options)  # type: ignore[arg-type]
        self._keep(answer)
        return answer

    async def deliver(self, url: str, body: bytes = b"{}", **headers: str) -> int:
        """Deliver without a key, and keep what is answered."""
        answer = await self._penstock.deliver(url, body, **headers)
        self._keep(answer)
        return answer.status_code

    async def shown_once(self, path: str, **body: object) -> Json:
        """Make a token or link; the answer is not kept."""
        answer = await self._penstock.client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    async def made(self, path: str, body: Json) -> Json:
        """Make a schedule of Mage's, whose token the answer shows; it is not kept."""
        answer = await self._penstock.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def _keep(self, answer: httpx.Response) -> None:
        self.answers.append(f"{answer.status_code} {dict(answer.headers)} {answer.text}")


async def test_the_text_of_a_token_or_link_is_nowhere(
    penstock: Penstock, connection: Connection, servers: EmbeddedServers
) -> None:
    gateway, runner = await penstock.start()
    spy = Spy(penstock)
    schedule = (await penstock.schedule("quick", body_limit=1000))["id"]

    canaries = await use_tokens(spy, f"{penstock.url}/hooks/{schedule}", f"/v1/schedules/{schedule}")
    canaries += await use_links(spy, f"/v1/schedules/{schedule}")
    canaries += await use_tokens_of_mage(spy, penstock.url, schedule)
    await look_at_everything(spy, schedule)

    async def all_ended() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM runs WHERE finished_at IS NULL")

    await eventually(all_ended, timeout=20)
    places = {f"answer: {answer[:200]}": answer for answer in spy.answers}
    places |= await tables(connection) | await redis_values(servers.redis_url)
    for process in (gateway, runner):
        await process.end()
        places[f"log of the {process.role}"] = process.log
    assert places["log of the gateway"].count("/hooks/") > 10  # requests are logged, without what is secret in them
    assert await connection.fetchval("SELECT count(*) FROM tokens WHERE last_used_at IS NOT NULL") >= 1
    for canary, (place, text) in itertools.product([*canaries, KEY, *SIGNING_KEYS], places.items()):
        assert canary not in text, f"{canary[:8]}... is in {place}"
        assert canary.encode().hex() not in text, f"{canary[:8]}... is in {place}, as bytes"


async def use_tokens(spy: Spy, hook: str, schedule: str) -> list[str]:
    """Use tokens in each right and wrong way, and return them."""
    good = await spy.shown_once(f"{schedule}/tokens", label="good")
    revoked = await spy.shown_once(f"{schedule}/tokens", label="revoked")
    rotated = await spy.shown_once(f"/v1/tokens/{good['id']}/rotate", grace_s=60)
    token, unknown = good["token"], credentials.new_token()
    mistyped = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert (await spy.ask("DELETE", f"/v1/tokens/{revoked['id']}")).status_code == 204

    for live in (token, rotated["token"]):
        assert await spy.deliver(f"{hook}/{live}") == 202
    assert await spy.deliver(hook, authorization=f"Bearer {token}") == 202
    assert await spy.deliver(hook, x_penstock_token=token) == 202
    assert await spy.deliver(f"{hook}/{token}", referer=f"{hook}/{token}", x_other=f"see {token}") == 202
    assert await spy.deliver(f"{hook}/{token.replace('pst_', 'pst%5F')}") == 202
    assert await spy.deliver(f"{hook}/{token}?dry_run=1&again={token}") == 200
    assert await spy.deliver(f"{hook}/{token}", b'{"not": json', content_type="application/json") == 400
    assert await spy.deliver(f"{hook}/{token}", b"x" * 1001) == 413
    for dead in (revoked["token"], unknown, mistyped, token + "x"):
        assert await spy.deliver(f"{hook}/{dead}") == 404
    assert await spy.deliver(f"{hook}?token={token}") == 404
    assert await spy.deliver(f"{hook}?access_token={token}") == 202
    assert await spy.deliver(f"{hook}/{token}/{token}") == 404
    for method in ("GET", "PUT", "DELETE"):
        assert (await spy.ask(method, f"{hook}/{token}")).status_code == 405
    for mistake in (
        f"/v1/runs/{token}",
        f"/v1/runs?cursor={token}",
        f"/v1/tokens/{token}",
        f"/v1/stream?topics={token}",
    ):
        await spy.ask("GET", mistake)
    await spy.ask("GET", "/v1/runs", headers={"authorization": f"Bearer {token}"})
    await spy.ask("POST", "/v1/schedules", json={"pipeline_id": token, "name": "x", token: 1})

    await spy.ask("PATCH", schedule, json={"is_paused": True, "on_paused": "reject"})
    assert await spy.deliver(f"{hook}/{token}") == 200
    await spy.ask("PATCH", schedule, json={"is_paused": False})
    return [token, rotated["token"], revoked["token"], unknown, mistyped]


async def use_links(spy: Spy, schedule: str) -> list[str]:
    """Use up a link, and return what is signed in it."""
    link = (await spy.shown_once(f"{schedule}/links", max_uses=1))["url"]
    signed = link.rsplit("/", 1)[1]
    for status in (202, 404):
        assert await spy.deliver(link) == status
    assert await spy.deliver(link + "x") == 404
    assert (await spy.ask("GET", link)).status_code == 405
    return [signed]


async def use_tokens_of_mage(spy: Spy, url: str, schedule: str) -> list[str]:
    """Import a token, use it and one that Mage's API made in each right and wrong way, and return them."""
    foreign, mages_key = "4506463a01944ef492f70005996dac1a", "zkWlN0PkIKSN0C11CfUHUj84OT5XOJ6tDZ6bDRO2"
    imported = {"sha256": credentials.digest(foreign).hex(), "hint": credentials.hint(foreign)}
    assert (await spy.ask("POST", f"/v1/schedules/{schedule}/tokens/imported", json=imported)).status_code == 201
    path = f"/api/pipeline_schedules/{schedule}"
    made = await spy.made(
        "/api/pipelines/quick/pipeline_schedules", {"pipeline_schedule": {"name": "shown once", "status": "active"}}
    )
    native = made["pipeline_schedule"]["token"]
    native_path = f"/api/pipeline_schedules/{made['pipeline_schedule']['id']}"
    for token, at in ((foreign, path), (native, native_path)):
        hook = f"{url}{at}/pipeline_runs/{token}"
        assert await spy.deliver(hook) == 200
        assert await spy.deliver(hook, referer=hook, x_runs=f"{url}/api/runs/{token}") == 200
        assert await spy.deliver(f"{url}{at}/api_trigger", authorization=f"Bearer {token}") == 200
        assert await spy.deliver(f"{hook}?api_key={KEY}&dry_run=1") == 200
        assert await spy.deliver(f"{hook}?api_key={KEY}") == 200
        assert await spy.deliver(hook, b'{"pipeline_run": {"id": 7}}') == 400
        assert await spy.deliver(hook, b'{"not": json', content_type="application/json") == 400
        assert await spy.deliver(f"{url}/api/events", authorization=f"Bearer {token}") == 200
        assert await spy.deliver(f"{url}/api/runs/{token}", b'{"run": {"block_uuid": "nothing"}}') == 400
        assert await spy.deliver(hook + "x") == 404
        assert await spy.deliver(f"{url}/api/pipeline_schedules/{token}/pipeline_runs/{token}/{token}") == 404
        for method in ("GET", "PUT", "DELETE"):
            assert (await spy.ask(method, f"{at}/pipeline_runs/{token}")).status_code == 405
        for mistake in (f"/api/pipeline_runs/{token}", f"{at}/pipeline_runs?status={token}", f"/api/pipelines/{token}"):
            await spy.ask("GET", mistake)
    asked = {"api_key": KEY, "pipeline_run": {"variables": {}}}
    assert (await spy.ask("POST", f"{path}/pipeline_runs?api_key={KEY}", json=asked)).status_code == 200
    for read in ("/api/pipeline_schedules", path, "/api/pipeline_runs", f"/api/pipeline_schedules?api_key={mages_key}"):
        assert (await spy.ask("GET", read)).status_code == 200
    return [foreign, native, mages_key]


async def look_at_everything(spy: Spy, schedule: str) -> None:
    """Read whatever the API shows of schedules, tokens, events and runs."""
    for path in ("/v1/pipelines", "/v1/schedules", f"/v1/schedules/{schedule}", f"/v1/schedules/{schedule}/tokens"):
        assert (await spy.ask("GET", path)).status_code == 200
    for kind in ("events", "runs"):
        listed = (await spy.ask("GET", f"/v1/{kind}")).json()["items"]
        assert len(listed) > 3
        for item in listed:
            assert (await spy.ask("GET", f"/v1/{kind}/{item['id']}")).status_code == 200
    for path in ("/health/ready", "/v1/keys", "/metrics", "/openapi.json"):
        await spy.ask("GET", path)


async def tables(connection: Connection) -> dict[str, str]:
    """Write out every row of every table."""
    names = [
        row["tablename"]
        for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]
    assert {"events", "tokens", "links", "logs"} <= set(names)
    rows = {name: await connection.fetch(f'SELECT t::text FROM "{name}" t') for name in names}
    return {f"table {name}": "\n".join(row["t"] for row in found) for name, found in rows.items()}


async def redis_values(url: str) -> dict[str, str]:
    """Write out every key and value that Redis has."""
    async with Redis.from_url(url) as redis:
        keys = [key async for key in redis.scan_iter()]
        dumps = [await redis.dump(key) or b"" for key in keys]
    return {f"redis {key!r}": f"{key!r} {dump.hex()}" for key, dump in zip(keys, dumps, strict=True)}
