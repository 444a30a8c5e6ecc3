"""Whether a long history makes anything slower: pages, filters, overviews, and taking deliveries.

A million runs with three million events are written by Postgres itself, which takes some minutes; `--stored-runs` and
`--stored-events` make it smaller or larger. Each plan of the store's own queries is looked at, and one that scans a
large table ends the measurement.
"""

import asyncio
import contextlib
import http.client
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

import asyncpg
import msgspec

from gateway.bench import history, plans
from gateway.bench.accept import BODY
from gateway.bench.figures import Figure, at_least, at_most, figure, latencies, median_ratio
from gateway.bench.history import History
from gateway.bench.load import Load
from gateway.bench.plan import Plan
from gateway.bench.plans import MODES, Eavesdropper
from gateway.bench.questions import questions
from gateway.bench.site import Say, Site, site
from schemas.errors import PenstockError
from schemas.store import tallies
from schemas.store.db import Database, prepare

GOAL_MS = 20.0
WARM_UP = 7  # from the sixth time on Postgres may keep one plan for all
MOST_BLOCKS = 12_000  # of 8 KiB: what a bounded look into the bytes of events may touch
_PAGES = {
    "newest page": ("runs", {}),
    "filter: pipeline": ("runs", {"pipeline_id": "history_3"}),
    "filter: failed": ("runs", {"state": "failed"}),
    "filter: success": ("runs", {"state": "success"}),
    "filter: queued": ("runs", {"state": "queued"}),
    "filter: cancelled of a pipeline": ("runs", {"state": "cancelled", "pipeline_id": "history_3"}),
    "filter: triggered by runs": ("runs", {"origin": "run"}),
    "text": ("runs", {"q": "customer-1"}),
    "text that is nowhere": ("runs", {"q": "nowhere to be found"}),
    "newest events": ("events", {}),
    "events: rejected": ("events", {"verdict": "rejected"}),
    "events: a rare source": ("events", {"source": "github"}),
    "events: a text that is nowhere": ("events", {"q": "nowhere to be found"}),
    "events: a delivery id": ("events", {"dedupe_key": "order-2002"}),
    "calendar": ("calendar", {}),
    "calendar of a pipeline": ("calendar", {"pipeline_id": "history_3"}),
    "dashboard": ("dashboard", {}),
    "search": ("search", {"q": "key-12"}),
    "search for nothing": ("search", {"q": "nowhere"}),
    "lineage": ("lineage", {}),
}


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Write a history, look at the plans, read every page and overview, and load it and an empty database in turns."""
    async with site() as full, site() as empty:
        await _write(full, plan, say)
        await _check_plans(full, say)
        await full.start_gateway()
        await empty.start_gateway()
        rows = []
        for name, (resource, query) in _PAGES.items():
            waits = await asyncio.to_thread(_read, full, f"/v1/{resource}?{urlencode(query)}", plan.repeats * 40)
            rows += latencies(f"{name}, {plan.stored_runs:,} runs", waits, p99=at_most(GOAL_MS))
            say(f"stored: {name}, p50 {rows[-2].value:g} ms, p99 {rows[-1].value:g} ms")
        return [*rows, await _accept(full, empty, plan, say)]


async def _write(place: Site, plan: Plan, say: Say) -> None:
    begun = time.monotonic()
    async with _connected(place) as connection:
        await connection.execute("SET synchronous_commit = off")
        days = max(3, min(90, plan.stored_runs // 5000))
        await history.write(connection, History(runs=plan.stored_runs, events=plan.stored_events, days=days))
    say(f"stored: {plan.stored_runs:,} runs and {plan.stored_events:,} events, {time.monotonic() - begun:.0f} s")
    db = Database(place.servers.database_url, size=1, name="bench")
    await db.open()
    try:
        while await tallies.close(db, limit=24):
            pass
    finally:
        await db.close()


async def _check_plans(place: Site, say: Say) -> None:
    """Explain every query that the store sends for our questions; raises PenstockError for a bad plan."""
    async with _connected(place) as connection:
        run = await connection.fetchrow(
            "SELECT id, schedule_id, event_id FROM runs WHERE event_id IS NOT NULL ORDER BY id LIMIT 1"
        )
        if run is None:
            raise PenstockError("The history has no runs.")
        parent = await connection.fetchval("SELECT parent_id FROM runs WHERE origin = 'run' ORDER BY id LIMIT 1")
        replay_id = await connection.fetchval("SELECT replay_id FROM runs WHERE origin = 'replay' LIMIT 1")
        asked = questions(
            run_id=run["id"],
            schedule_id=run["schedule_id"],
            event_id=run["event_id"],
            parent_id=parent,
            replay_id=replay_id,
        )
        for name, ask in asked.items():
            heard = Eavesdropper(connection)
            await ask(heard)
            for sql, arguments in heard.heard:
                for mode in MODES:
                    plan = await plans.executed(connection, sql, arguments, mode=mode)
                    plans.check(name, plan, most_blocks=MOST_BLOCKS)
                nodes = " < ".join(dict.fromkeys(plan.nodes))
                say(f"stored: plan of {name}: {plan.ms:.1f} ms, {plan.blocks} blocks, {nodes[:200]}")


def _read(place: Site, target: str, count: int) -> list[float]:
    """Ask the same over one connection, and return how long each answer took; the first ones warm up."""
    waits = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)) as connection:
        for _ in range(count + WARM_UP):
            begun = time.perf_counter()
            connection.request("GET", target, headers={"Authorization": f"Bearer {place.key}"})
            answer = connection.getresponse()
            content = answer.read()
            waits.append(time.perf_counter() - begun)
            if answer.status != 200:
                raise http.client.HTTPException(f"{target} was answered with {answer.status}: {content!r}")
    return waits[WARM_UP:]


async def _accept(full: Site, empty: Site, plan: Plan, say: Say) -> Figure:
    """Deliver to both in turns."""
    rates: dict[str, list[float]] = {"empty": [], "full": []}
    hooks = {"empty": (empty, await empty.hook("noop")), "full": (full, await full.hook("noop"))}
    for number in range(plan.rounds):
        for name, (place, hook) in hooks.items():
            load = Load(port=place.port, path=hook, body=BODY, connections=plan.connections, seconds=plan.seconds)
            measured = await place.load(msgspec.structs.replace(load, warm_up_s=plan.seconds / 10))
            rates[name].append(measured.per_second)
            say(f"stored, round {number + 1}: {name} {measured.per_second:,.0f}/s")
    return _ratio(rates["full"], rates["empty"])


def _ratio(full: Sequence[float], empty: Sequence[float]) -> Figure:
    return figure(
        "durable accept beside a long history",
        statistics.median(full),
        unit="1/s",
        ratio=median_ratio(full, empty),
        ratio_to="an empty database",
        goal=at_least(0.9),
    )


@contextlib.asynccontextmanager
async def _connected(place: Site) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(place.servers.database_url)
    try:
        await prepare(connection)
        yield connection
    finally:
        await connection.close()
