"""G1 and G7: Postgres may crash and come back; deliveries wait for it, and nothing that was acknowledged is lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from gateway import embedded
from gateway.embedded import EmbeddedServers
from tests.faults import (
    Connection,
    Crowd,
    all_ended,
    assert_history_is_whole,
    assert_nothing_was_lost,
    crash_postgres,
    diary_of,
    fragile_penstock,
    start,
    trigger,
)
from tests.system import Json, Penstock
from tests.waiting import eventually

DOWN_S = 2.0
HOLD_S = 2.0


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Servers of this module's own, which every test leaves running."""
    with embedded.running(tmp_path_factory.mktemp("fragile")) as servers:
        yield servers


@pytest.fixture
async def penstock(fragile: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with fragile_penstock(fragile, tmp_path) as system:
        yield system


async def connect(penstock: Penstock) -> Connection:
    return await asyncpg.connect(penstock.environ["PENSTOCK_DATABASE_URL"])


async def test_crashes_of_postgres_lose_nothing_and_make_nothing_twice(
    fragile: EmbeddedServers, penstock: Penstock
) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")

    async with Crowd(hook, per_second=100) as crowd:
        for _ in range(3):
            await crowd.reached(len(crowd.accepted) + random.randint(10, 80))
            await crash_postgres(fragile.postgres)
            await start(fragile.postgres)
        await crowd.reached(len(crowd.accepted) + 50)

    assert [answer.text for answer in crowd.refusals] == []
    connection = await connect(penstock)
    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted)}
    await assert_history_is_whole(connection)
    await connection.close()


async def test_two_seconds_without_postgres_refuse_no_delivery(fragile: EmbeddedServers, penstock: Penstock) -> None:
    await penstock.start()
    hook = await penstock.hook("quick")

    async with Crowd(hook, per_second=100) as crowd:
        await crowd.reached(50)
        await crash_postgres(fragile.postgres)
        await asyncio.sleep(DOWN_S)
        await start(fragile.postgres)
        await crowd.reached(len(crowd.accepted) + 100)

    assert ([answer.text for answer in crowd.refusals], crowd.broken) == ([], 0)
    connection = await connect(penstock)
    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted)}
    await assert_history_is_whole(connection)
    await connection.close()


async def test_after_the_longest_hold_a_delivery_is_refused_until_postgres_is_back(
    fragile: EmbeddedServers, penstock: Penstock
) -> None:
    await penstock.start(hold_s=HOLD_S)
    hook, unused_hook = await penstock.hook("quick"), await penstock.hook("quick")
    await penstock.delivered_run(hook)
    await crash_postgres(fragile.postgres)

    begun = time.monotonic()
    # One token is remembered, the other has to be looked up: both wait for Postgres.
    refused = await asyncio.gather(penstock.deliver(hook), penstock.deliver(unused_hook))
    waited = time.monotonic() - begun

    for answer in refused:
        _assert_is_unavailable(answer)
    assert HOLD_S * 0.9 <= waited <= HOLD_S + 1
    ready = await penstock.client.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["postgres"]) == (503, "failed")

    await start(fragile.postgres)
    for again in (hook, unused_hook):
        assert (await penstock.ended(await penstock.delivered_run(again)))["state"] == "success"


async def test_gateway_and_runner_end_in_time_while_postgres_is_away(
    fragile: EmbeddedServers, penstock: Penstock, tmp_path: Path
) -> None:
    quickly = {"hold_s": HOLD_S, "drain_s": 0.5, "lease_s": 2, "heartbeat_s": 0.2}
    gateway, runner = await penstock.start(**quickly)
    run_id = await trigger(penstock, "steps", seconds=0.3, diary=str(tmp_path / "diary"))
    await eventually(lambda: diary_of(tmp_path / "diary"), timeout=10)
    await crash_postgres(fragile.postgres)

    assert await asyncio.gather(gateway.end(within=12), runner.end(within=12)) == [0, 0]

    await start(fragile.postgres)
    await penstock.start(**quickly)
    assert (await penstock.ended(run_id))["state"] == "success"


async def test_a_stream_survives_a_crash_of_postgres(fragile: EmbeddedServers, penstock: Penstock) -> None:
    await penstock.start()
    run_id = await trigger(penstock, "chatty", lines=60, every_s=0.02)
    heard: list[Json] = []

    async def watch() -> None:
        last = heard[-1]["id"] if heard else None
        async for event in penstock.events(f"/v1/runs/{run_id}/stream", last_event_id=last):
            heard.append(event)
            if len(heard) == 20:
                crashed.set()

    crashed = asyncio.Event()
    watcher = asyncio.create_task(watch())
    await crashed.wait()
    await crash_postgres(fragile.postgres)
    await start(fragile.postgres)
    await watcher

    assert [event["event"] for event in heard[-2:]] == ["run", "end"]
    assert [int(event["id"]) for event in heard[:-1]] == list(range(1, len(heard)))
    assert sum(event["event"] == "log" for event in heard) == 60


def _assert_is_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "/problems/unavailable"
    assert int(answer.headers["retry-after"]) > 0
