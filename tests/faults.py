"""Faults that tests inject, the crowd of senders that goes on meanwhile, and what must be true afterwards."""

import asyncio
import json
import os
import random
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import httpx

import migrations
from gateway.embedded import EmbeddedPostgres, EmbeddedRedis, EmbeddedServers
from tests.system import Json, Penstock
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
FLOWS = Path(__file__).parent / "flows"


@asynccontextmanager
async def fragile_penstock(servers: EmbeddedServers, directory: Path, **settings: object) -> AsyncIterator[Penstock]:
    """Give a Penstock on servers that may be harmed, with an empty database and an empty Redis."""
    name = f"fragile_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = servers.database_url.replace("/penstock?", f"/{name}?", 1)
    await migrations.apply(url)
    system = Penstock(database_url=url, redis_url=servers.redis_url, directory=directory, pipelines=FLOWS, **settings)
    async with system:
        yield system


async def crash_postgres(postgres: EmbeddedPostgres) -> None:
    """Stop Postgres at once, in the middle of whatever it does: the next start has to recover."""
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGQUIT)
    await eventually(lambda: not postgres.alive, timeout=10)
    await asyncio.to_thread(postgres.stop)


async def start(server: EmbeddedPostgres | EmbeddedRedis) -> None:
    """Start a server again."""
    await asyncio.to_thread(server.start)


async def kill_redis(redis: EmbeddedRedis) -> None:
    """Kill Redis, and everything that it knew is lost."""
    await asyncio.to_thread(redis.kill)
    shutil.rmtree(redis.directory)


class Crowd:
    """Senders that deliver at a steady rate, each delivery with a key of its own, until the `async with` ends.

    Like good senders they try again with the same key when the connection breaks or the answer is a 503; `accepted`
    maps each key to the run that it was promised, `refusals` are the answers that were neither 200 nor 202.
    """

    def __init__(self, *hooks: str, per_second: float, senders: int = 12) -> None:
        self.accepted: dict[str, str] = {}
        self.refusals: list[httpx.Response] = []
        self.broken = 0
        self._hooks = hooks
        self._pause = senders / per_second
        self._senders = senders
        self._is_over = asyncio.Event()
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def schedules(self) -> list[str]:
        """The ids of the schedules that it delivers to."""
        return [hook.split("/")[-2] for hook in self._hooks]

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._send_for_long()) for _ in range(self._senders)]
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._is_over.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def reached(self, count: int, *, within: float = 30) -> None:
        """Wait until so many deliveries were accepted."""
        await eventually(lambda: len(self.accepted) >= count, timeout=within)

    async def _send_for_long(self) -> None:
        while not self._is_over.is_set():
            await self._send_until_accepted(uuid.uuid4().hex)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))

    async def _send_until_accepted(self, key: str) -> None:
        hook = random.choice(self._hooks)
        while key not in self.accepted:
            try:
                answer = await self._client.post(hook, content=b"{}", headers={"idempotency-key": key})
            except httpx.TransportError:
                self.broken += 1
            else:
                if answer.status_code in (200, 202):
                    self.accepted[key] = answer.json()["runs"][0]["id"]
                else:
                    self.refusals.append(answer)


async def post(url: str, body: bytes = b"{}", **headers: str) -> tuple[int, Json]:
    """Send one delivery over a connection of its own; cheap enough for a thousand at once. Gives status and answer."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    headers |= {"host": "127.0.0.1", "content-length": str(len(body)), "connection": "close"}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {address.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ", 2)[1]), json.loads(content)


async def assert_nothing_was_lost(crowd: Crowd, connection: Connection) -> None:
    """Each accepted key has its event and the promised run, and its schedules have no other."""
    rows = await connection.fetch(
        """SELECT e.dedupe_key, r.id FROM events e LEFT JOIN runs r ON r.event_id = e.id
           WHERE e.dedupe_key IS NOT NULL AND e.duplicate_of IS NULL AND e.schedule_id = ANY ($1::uuid[])""",
        crowd.schedules,
    )
    assert len(rows) == len(crowd.accepted)
    assert {row["dedupe_key"].removeprefix("key:"): str(row["id"]) for row in rows} == crowd.accepted


async def all_ended(connection: Connection, *, within: float) -> dict[str, int]:
    """Wait until no run is queued or running, and count the runs by state."""

    async def nothing_is_open() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM runs WHERE finished_at IS NULL")

    await eventually(nothing_is_open, timeout=within)
    return {row["state"]: row["count"] for row in await connection.fetch("SELECT state, count(*) FROM runs GROUP BY 1")}


async def assert_history_is_whole(connection: Connection) -> None:
    """Each run that ended did so once, unless a person overruled it, and its history has no hole and nothing twice."""
    twice = await connection.fetch(
        """SELECT run_id, count(*) FROM changes c
           WHERE kind = 'run' AND state IN ('success', 'failed', 'cancelled')
             AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = c.run_id AND r.marked_at IS NOT NULL)
           GROUP BY run_id HAVING count(*) > 1"""
    )
    assert twice == []
    torn = await connection.fetch(
        """SELECT r.id, r.seq, count(*), count(DISTINCT h.seq), min(h.seq), max(h.seq)
           FROM runs r LEFT JOIN (SELECT run_id, seq FROM changes UNION ALL SELECT run_id, seq FROM logs) h
                ON h.run_id = r.id
           GROUP BY r.id HAVING (count(*), count(DISTINCT h.seq), min(h.seq), max(h.seq)) <> (r.seq, r.seq, 1, r.seq)"""
    )
    assert torn == []


async def blocks_of(penstock: Penstock, run_id: str) -> dict[str, Json]:
    """Read the block runs of a run by block id."""
    return {block["block_id"]: block for block in (await penstock.run(run_id))["block_runs"]}


def diary_of(path: Path) -> list[tuple[int, int]]:
    """Read which steps were executed, as (number of the step, its attempt), in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), int(attempt)) for _, number, attempt in map(str.split, lines)]


async def trigger(penstock: Penstock, pipeline_id: str, **variables: Any) -> str:
    """Start a run through the API and return its id."""
    answer = await penstock.client.post(f"/v1/pipelines/{pipeline_id}/runs", json={"variables": variables})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])
