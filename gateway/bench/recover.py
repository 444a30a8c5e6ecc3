"""How soon the work goes on after a runner was killed in the middle of it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import msgspec

from gateway.bench.figures import Figure, at_most, figure, quantile
from gateway.bench.plan import Plan
from gateway.bench.site import Say, Site, site
from gateway.cli.client import Client, path
from schemas.errors import PenstockError
from schemas.settings import Settings

PATIENCE_S = 40.0


class _Fields(msgspec.Struct):
    at: float
    runner: int


class _Log(msgspec.Struct):
    fields: _Fields


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Kill -9 the runner that executes a block, with another one beside it, until that one begins the block again."""
    waits: list[float] = []
    async with site() as place:
        await place.start_gateway()
        hook = await place.hook("interrupted")
        runners = [await place.start_runner(), await place.start_runner()]
        say("recover: waiting, for after a start of Postgres every runner has one lease to come back")
        await asyncio.sleep(Settings().lease_s)
        for _ in range(plan.repeats):
            killed, wait_s = await _interrupt(place, hook)
            say(f"recover: resumed after {wait_s:.2f} s")
            waits.append(wait_s)
            dead = next(runner for runner in runners if runner.pid == killed)
            await dead.kill()
            runners = [*(runner for runner in runners if runner is not dead), await place.start_runner()]
    return [
        figure("kill -9 of a runner to resumed, p50", quantile(waits, 0.50), unit="s"),
        figure("kill -9 of a runner to resumed, longest", max(waits), unit="s", goal=at_most(2.5)),
    ]


async def _interrupt(place: Site, hook: str) -> tuple[int, float]:
    """Return who was killed, and how many seconds later the block began again."""
    run_id = await place.deliver(hook)
    return await asyncio.to_thread(_kill_and_watch, place.client, run_id)


def _kill_and_watch(client: Client, run_id: str) -> tuple[int, float]:
    beginnings = _beginnings(client, run_id)
    killed = next(beginnings).runner
    killed_at = time.time()
    os.kill(killed, signal.SIGKILL)
    for begun in beginnings:
        return killed, begun.at - killed_at
    raise PenstockError("the run was not resumed")


def _beginnings(client: Client, run_id: str) -> Iterator[_Fields]:
    """Yield what the block logs at its first line, each time that it begins."""
    for event in client.stream(path("runs", run_id, "stream"), deadline=time.monotonic() + PATIENCE_S):
        if event.event == "log":
            yield msgspec.json.decode(event.data, type=_Log).fields
