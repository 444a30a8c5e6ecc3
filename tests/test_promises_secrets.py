"""G14: a token is shown once, when it is made; after whatever is done with it, nobody finds it anywhere else.

What a sender and its schedule share stands in that schedule, and nowhere else either.
"""

import asyncio
import base64
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
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


async def test_what_senders_prove_themselves_with_is_nowhere_but_in_their_schedules(
    penstock: Penstock, connection: Connection, servers: EmbeddedServers
) -> None:
    gateway, runner = await penstock.start()
    spy = Spy(penstock)

    for sender in SENDERS:
        await use_sender(spy, sender)
    await look_at_everything(spy, "1")
    await replay_everything(spy)
    shown = [await command(penstock, "sources", "show", sender.source, "--schedule", "1") for sender in SENDERS[:1]]

    async def all_ended() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM runs WHERE finished_at IS NULL")

    await eventually(all_ended, timeout=20)
    places = {f"answer: {answer[:200]}": answer for answer in [*spy.answers, *shown]}
    places |= await tables(connection) | await redis_values(servers.redis_url)
    assert all(canary in places["table schedules"] for sender in SENDERS for canary in sender.kept)
    rest = await connection.fetch("SELECT (to_jsonb(s) - 'source_config')::text AS t FROM schedules s")
    places["table schedules"] = "\n".join(row["t"] for row in rest)
    for process in (gateway, runner):
        await process.end()
        places[f"log of the {process.role}"] = process.log
    assert "canary" not in "".join(shown)
    for canary, (place, text) in itertools.product(ever_sent(), places.items()):
        assert canary not in text, f"{canary} is in {place}"
        assert canary.encode().hex() not in text, f"{canary} is in {place}, as bytes"


class Sender(msgspec.Struct, frozen=True):
    """A source and its configuration; `{}` in headers and query stands for what the sender proves itself with.

    `kept` are the secrets in the configuration, of which the first is sent.
    """

    source: str
    kept: tuple[str, ...]
    headers: dict[str, str] = {}
    query: str = ""
    config: dict[str, object] = {}

    @property
    def fields(self) -> dict[str, object]:
        secrets = [text for text in self.kept if text not in self.config.values()]
        return {"source": self.source, "source_config": {"secrets": secrets} | self.config}

    def proof(self, secret: str) -> dict[str, str]:
        """Write the headers; of Basic the whole is what is sent."""
        basic = base64.b64encode(f"user:{secret}".encode()).decode()
        return {name: value.format(secret, basic=basic) for name, value in self.headers.items()}


SENDERS = (
    Sender("gitlab", ("canary-gitlab-1", "canary-gitlab-2"), {"x-gitlab-token": "{}"}),
    Sender("telegram", ("canary-telegram",), {"x-telegram-bot-api-secret-token": "{}"}),
    Sender("cloudevents", ("canary-cloudevents",), query="access_token={}"),
    Sender("jira", ("canary-jira",), query="secret={}"),
    Sender("alertmanager", ("canary-alertmanager",), {"authorization": "Basic {basic}"}),
    Sender("minio", ("canary-minio",), {"authorization": "Bearer {}"}),
    Sender("eventbridge", ("canary-eventbridge",), {"x-api-key": "{}"}),
    Sender("meta", ("canary-meta", "canary-verify"), config={"verify_token": "canary-verify"}),
    Sender("hmac", ("canary-hmac",), {"x-acme-auth": "{}"}, config={"signature": {"header": "X-Acme-Auth"}}),
)


def ever_sent() -> list[str]:
    """List what was sent, right or wrong, with what Basic makes of it."""
    secrets = [text for sender in SENDERS for text in (*sender.kept, wrong(sender))]
    return [*secrets, *(base64.b64encode(f"user:{text}".encode()).decode() for text in secrets)]


def wrong(sender: Sender) -> str:
    """Make a secret that is not this sender's, but could be one of somebody else."""
    return f"canary-of-another-{sender.source}"


async def use_sender(spy: Spy, sender: Sender) -> None:
    """Deliver with the right and with a wrong secret, let rules read it, and look at all that is told of it."""
    created = await spy.ask("POST", "/v1/schedules", json={"pipeline_id": "quick", "name": "x"} | sender.fields)
    schedule = f"/v1/schedules/{created.json()['id']}"
    url = (await spy.shown_once(f"{schedule}/tokens"))["url"]
    statuses = {}
    for secret in (sender.kept[0], wrong(sender)):
        hook, headers = f"{url}?{sender.query.format(secret)}", sender.proof(secret)
        statuses[secret] = await spy.deliver(hook, b'{"a": 1}', **headers)
        await spy.deliver(hook + "&dry_run=1", b'{"a": 2}', **headers)
        await spy.deliver(hook, b"{", content_type="application/json", **headers)
        await spy.ask("GET", f"{url}?hub.mode=subscribe&hub.verify_token={sender.kept[-1]}&hub.challenge=1")
    proves_by_repeating = sender.source not in ("meta", "hmac")
    assert list(statuses.values()) == [202 if proves_by_repeating else 401, 401], sender

    for name in sender.headers:
        header = f"headers[{name!r}]"
        rules = {"filter": f"{header} != '' && query.size() < 9", "mapping": {"n": f"{{'a': 1}}[{header}]"}}
        assert (await spy.ask("PATCH", schedule, json=rules)).status_code == 200
        await spy.deliver(f"{url}?dry_run=1", b"{}", **sender.proof(sender.kept[0]))
        told = await spy.deliver(url, b"{}", **sender.proof(sender.kept[0]))
        assert told == (200 if proves_by_repeating else 401)
    observe = sender.fields["source_config"] | {"mode": "observe", "secrets": ["***"]}
    assert (await spy.ask("PATCH", schedule, json={"source_config": observe})).status_code == 200
    await spy.deliver(f"{url}?{sender.query.format(wrong(sender))}", b'{"a": 3}', **sender.proof(wrong(sender)))
    await spy.ask("PATCH", schedule, json={"source_config": {"secrets": [sender.kept[0]], "unknown": sender.kept[0]}})
    await spy.ask("PATCH", schedule, json={"source_config": sender.fields["source_config"]})
    await spy.ask("GET", "/v1/audit")


async def replay_everything(spy: Spy) -> None:
    """Explain each event, and replay it in every way."""
    for event in (await spy.ask("GET", "/v1/events?limit=200")).json()["items"]:
        path = f"/v1/events/{event['id']}"
        assert (await spy.ask("GET", f"{path}/explain")).status_code == 200
        for asked in ({"dry_run": True, "mode": "today"}, {"dry_run": True}, {"mode": "today"}, {}):
            assert (await spy.ask("POST", f"{path}/replay", json=asked)).status_code in (200, 202, 409)
    many = {"filter": {"created_after": "1970-01-01T00:00:00Z"}, "rate_per_s": 1000}
    assert (await spy.ask("POST", "/v1/events/replay", json=many | {"dry_run": True})).status_code == 200
    assert (await spy.ask("POST", "/v1/events/replay", json=many)).status_code == 202
    await spy.ask("GET", "/v1/replays")


async def command(penstock: Penstock, *words: str) -> str:
    """Run a client command with the admin key, and return all that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway", *words),
        env=penstock.environ | {"PENSTOCK_URL": penstock.url, "PENSTOCK_API_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    return printed.decode()


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
