"""G10: a gateway that is asked to end tells everybody who watches, answers what it has taken, and ends."""

import asyncio
import signal

from tests.faults import Connection, Crowd, all_ended, assert_nothing_was_lost, trigger
from tests.system import Penstock, free_port
from tests.waiting import eventually


async def lines_of(penstock: Penstock, path: str, into: list[str]) -> None:
    """Read a stream line by line until the server ends it in order."""
    async with penstock.client.stream("GET", path) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            into.append(line)  # noqa: PERF401 - others look meanwhile


async def test_open_streams_are_told_to_come_back_and_the_gateway_ends(penstock: Penstock) -> None:
    gateway, _ = await penstock.start()
    run_id = await trigger(penstock, "steps", seconds=30)
    paths = [f"/v1/runs/{run_id}/stream", "/v1/stream?topics=runs", f"/v1/stream?topics=run:{run_id}"] * 5
    heard: list[list[str]] = [[] for _ in paths]
    watchers = [asyncio.create_task(lines_of(penstock, path, mine)) for path, mine in zip(paths, heard, strict=True)]
    await eventually(lambda: all(heard), timeout=10)

    assert await gateway.end(within=5) == 0

    await asyncio.gather(*watchers)
    for mine in heard:
        assert any(line.startswith("retry:") for line in mine)
        assert "event: end" not in mine  # the run goes on


async def test_a_sender_that_waits_for_a_result_is_answered_before_the_gateway_ends(penstock: Penstock) -> None:
    gateway, _ = await penstock.start()
    hook = await penstock.hook("steps", variables={"seconds": 30})
    waiting = asyncio.create_task(penstock.deliver(hook, prefer="wait=50"))

    async def is_running() -> bool:
        runs = (await penstock.client.get("/v1/runs", params={"state": "running"})).json()["items"]
        return bool(runs)

    await eventually(is_running, timeout=10)
    assert await gateway.end(within=5) == 0

    answer = await waiting
    assert (answer.status_code, answer.json()["runs"][0]["state"]) == (202, "running")


async def test_a_rolling_restart_of_two_gateways_loses_nothing(penstock: Penstock, connection: Connection) -> None:
    other_port = free_port()
    gateway, other, _ = await asyncio.gather(
        penstock.start_gateway(), penstock.start_gateway(port=other_port), penstock.start_runner()
    )
    hook = await penstock.hook("quick")
    hooks = [hook, hook.replace(f":{penstock.port}/", f":{other_port}/")]

    async with Crowd(*hooks, per_second=100) as crowd:
        await crowd.reached(30)
        assert await gateway.end(signal.SIGTERM, within=5) == 0
        await penstock.start_gateway()
        assert await other.end(signal.SIGTERM, within=5) == 0
        await penstock.start_gateway(port=other_port)
        await crowd.reached(len(crowd.accepted) + 30)

    assert [answer.text for answer in crowd.refusals] == []
    await assert_nothing_was_lost(crowd, connection)
    assert await all_ended(connection, within=30) == {"success": len(crowd.accepted)}
