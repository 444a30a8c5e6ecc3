"""From the moment at which a delivery is in the database to the first line of its first block."""

import asyncio
import datetime as dt
from typing import Any

from gateway.bench.figures import Figure, at_most, latencies
from gateway.bench.plan import Plan
from gateway.bench.site import Say, Site, site
from gateway.bench.visitor import Visitor, visits


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Compare the clock that a block logs with `created_at` of its run: processes of one machine share one clock.

    `created_at` is taken within the INSERT, so the wait for its commit counts as well.
    """
    async with site() as place:
        await place.start_gateway()
        await place.start_runner()
        visitor = Visitor(place.port, await place.hook("stamped"), place.key)
        say("dispatch: one delivery after another")
        made = await asyncio.to_thread(visits, visitor, seconds=plan.seconds, pause_s=plan.pause_s)
        waits = [await _wait_s(place, visit.run_id) for visit in made]
    return latencies("commit to the block's first line, idle", waits, p50=at_most(3), p99=at_most(10))


async def _wait_s(place: Site, run_id: str) -> float:
    run: dict[str, Any] = await place.call("GET", "runs", run_id)
    log: dict[str, Any] = await place.call("GET", "runs", run_id, "logs")
    begun: float = log["items"][0]["fields"]["at"]
    return begun - dt.datetime.fromisoformat(run["created_at"]).timestamp()
