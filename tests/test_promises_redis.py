"""G2: Redis is only the doorbell; flushed, killed, full or hung, it costs a moment and never a run."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from gateway import embedded
from gateway.embedded import EmbeddedServers
from tests.faults import (
    Connection,
    Crowd,
    all_ended,
    assert_history_is_whole,
    assert_nothing_was_lost,
    diary_of,
    fragile_penstock,
    kill_redis,
    post,
    start,
)
from tests.system import Penstock
from tests.waiting import eventually

RUNS = 60


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Servers of this module's own, which every test leaves running."""
    with embedded.running(tmp_path_factory.mktemp("fragile")) as servers:
        yield servers


@pytest.fixture
async def penstock(fragile: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with fragile_penstock(fragile, tmp_path) as system:
        yield system


@pytest.fixture
async def connection(penstock: Penstock) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(penstock.environ["PENSTOCK_DATABASE_URL"])
    yield opened
    await opened.close()


@pytest.fixture
async def redis(fragile: EmbeddedServers) -> AsyncIterator[Redis]:
    async with Redis.from_url(fragile.redis_url) as client:
        yield client


async def test_a_flushed_redis_loses_no_run_and_repeats_no_block(
    penstock: Penstock, connection: Connection, redis: Redis, tmp_path: Path
) -> None:
    await penstock.start(max_runs=8)
    diary = tmp_path / "diary"
    hook = await penstock.hook("steps", variables={"diary": str(diary), "seconds": 0.01})
    answers = await asyncio.gather(*(post(hook) for _ in range(RUNS)))
    assert {status for status, _ in answers} == {202}

    async def some_are_queued_and_some_running() -> bool:
        states = {row["state"] for row in await connection.fetch("SELECT DISTINCT state FROM runs")}
        return {"queued", "running"} <= states

    await eventually(some_are_queued_and_some_running)
    await redis.flushall()
    assert await all_ended(connection, within=30) == {"success": RUNS}
    assert len(diary_of(diary)) == RUNS * 5  # nothing was executed twice
    await assert_history_is_whole(connection)


async def test_without_redis_deliveries_are_taken_and_runs_are_executed(
    fragile: EmbeddedServers, penstock: Penstock, connection: Connection
) -> None:
    _, runner = await penstock.start()
    hook = await penstock.hook("quick")

    async with Crowd(hook, per_second=60) as crowd:
        await crowd.reached(30)
        await kill_redis(fragile.redis)
        await crowd.reached(len(crowd.accepted) + 60)
        during = await penstock.delivered_run(hook)
        run = await penstock.ended(during)  # started by the sweeper: there is no doorbell
        ready = await penstock.client.get("/health/ready")
        await start(fragile.redis)
        await crowd.reached(len(crowd.accepted) + 30)

    assert run["state"] == "success"
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ([answer.text for answer in crowd.refusals], crowd.broken) == ([], 0)
    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted) + 1}
    await assert_history_is_whole(connection)
    assert runner.is_alive


async def test_a_full_redis_refuses_rings_and_runs_are_executed_all_the_same(
    penstock: Penstock, connection: Connection, redis: Redis
) -> None:
    _, runner = await penstock.start()
    hook = await penstock.hook("quick")
    await redis.config_set("maxmemory", "1")
    try:
        answers = await asyncio.gather(*(post(hook) for _ in range(RUNS)))
        assert {status for status, _ in answers} == {202}
        assert await all_ended(connection, within=30) == {"success": RUNS}
    finally:
        await redis.config_set("maxmemory", "0")
    assert "OutOfMemory" in runner.log or "OutOfMemory" in penstock.processes[0].log  # it was full indeed
    await assert_history_is_whole(connection)


async def test_a_redis_that_hangs_delays_a_run_but_no_delivery(
    fragile: EmbeddedServers, penstock: Penstock, connection: Connection
) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")
    assert fragile.redis.pid is not None
    os.kill(fragile.redis.pid, signal.SIGSTOP)
    try:
        status, _ = await asyncio.wait_for(post(hook), 1)
        assert status == 202
        assert await all_ended(connection, within=6) == {"success": 1}
    finally:
        os.kill(fragile.redis.pid, signal.SIGCONT)


async def test_a_runner_starts_without_redis_and_hears_the_doorbell_once_it_is_there(
    fragile: EmbeddedServers, penstock: Penstock, connection: Connection
) -> None:
    await kill_redis(fragile.redis)
    await penstock.start()
    hook = await penstock.hook("quick")
    assert (await penstock.ended(await penstock.delivered_run(hook)))["state"] == "success"

    await start(fragile.redis)
    assert (await penstock.ended(await penstock.delivered_run(hook)))["state"] == "success"
    await assert_history_is_whole(connection)
