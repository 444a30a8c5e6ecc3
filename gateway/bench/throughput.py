"""Finished runs per second, status and all in Postgres, against arq doing the least that a durable status takes."""

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import Iterable, Sequence

import msgspec

from gateway.bench.figures import Figure, at_least, figure, median_ratio
from gateway.bench.load import Load
from gateway.bench.plan import Plan
from gateway.bench.processes import Program, ask_program, cpu_s
from gateway.bench.site import Say, Site, site
from gateway.bench.stock_arq import Drained, Question
from gateway.cli.client import Client, path
from schemas.errors import PenstockError
from schemas.states import RunState

LOOK_EVERY_S = 0.2
PATIENCE_S = 10.0
SLOWEST_PER_SECOND = 100
STOCK = "tuned stock arq, two durable updates per job"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of one round, in runs or jobs per second."""

    backlog: float
    sustained: float
    stock: float
    runner_us: float


class _Run(msgspec.Struct):
    state: RunState
    created_at: dt.datetime
    started_at: dt.datetime
    finished_at: dt.datetime


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Drain a queue that was filled before, then deliver while the runner works, then let arq drain its own."""
    async with site() as place:
        gateway = await place.start_gateway()
        rounds = [await _round(place, gateway, plan, say) for _ in range(plan.rounds)]
    stock = [one.stock for one in rounds]
    rows = [figure(STOCK, statistics.median(stock), unit="1/s")]
    for name, rates, goal in (
        ("no-op runs of two blocks, from a full queue", [one.backlog for one in rounds], at_least(1.0)),
        ("the same, delivered meanwhile", [one.sustained for one in rounds], None),
    ):
        ratio = median_ratio(rates, stock)
        rows.append(figure(name, statistics.median(rates), unit="1/s", ratio=ratio, ratio_to="stock arq", goal=goal))
    cpu = statistics.median(one.runner_us for one in rounds)
    return [*rows, figure("CPU of the runner, without its hosts, per run", cpu, unit="us")]


async def _round(place: Site, gateway: Program, plan: Plan, say: Say) -> Round:
    backlog = await place.hook("noop")
    await place.load(_load(place, backlog, plan))
    runner = await place.start_runner()
    drained = await _finished(place, backlog, plan.runs)
    runner_us = cpu_s(runner.pid) / plan.runs * 1e6
    sustained = await place.hook("noop")
    await place.load(_load(place, sustained, plan))
    delivered = await _finished(place, sustained, plan.runs)
    await runner.stop()
    question = Question(database_url=place.servers.database_url, redis_url=place.servers.redis_url, count=plan.runs)
    stock = await ask_program(question, Drained, "gateway.bench.stock_arq", log=place.folder / "stock.log")
    one = Round(
        backlog=_rate((run.started_at for run in drained), drained),
        sustained=_rate((run.created_at for run in delivered), delivered),
        stock=stock.per_second,
        runner_us=runner_us,
    )
    say(f"throughput: queue {one.backlog:,.0f}/s, sustained {one.sustained:,.0f}/s, stock arq {one.stock:,.0f}/s")
    return one


def _load(place: Site, hook: str, plan: Plan) -> Load:
    return Load(port=place.port, path=hook, body="{}", connections=plan.connections, count=plan.runs)


async def _finished(place: Site, hook: str, count: int) -> list[_Run]:
    """Wait until all runs of a hook have ended, and read them."""
    return await asyncio.to_thread(_wait_and_read, place.client, hook.split("/")[2], count)


def _wait_and_read(client: Client, schedule: str, count: int) -> list[_Run]:
    deadline = time.monotonic() + PATIENCE_S + count / SLOWEST_PER_SECOND
    for state in (RunState.QUEUED, RunState.RUNNING):
        query = {"schedule_id": schedule, "state": state.value}
        while list(client.pages(path("runs"), query=query, limit=1)):
            if time.monotonic() > deadline:
                raise PenstockError(f"of {count} runs some are still {state.value}")
            time.sleep(LOOK_EVERY_S)
    pages = client.pages(path("runs"), query={"schedule_id": schedule}, limit=None)
    runs = [msgspec.json.decode(item, type=_Run) for item in pages]
    succeeded = sum(run.state is RunState.SUCCESS for run in runs)
    if succeeded != count:
        raise PenstockError(f"{succeeded} of {count} runs succeeded")
    return runs


def _rate(begun: Iterable[dt.datetime], runs: Sequence[_Run]) -> float:
    return len(runs) / (max(run.finished_at for run in runs) - min(begun)).total_seconds()
