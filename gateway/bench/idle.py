"""How long one sender waits when nothing else happens: for its 202, and for the run that it started."""

import asyncio

from gateway.bench.figures import Figure, at_most, latencies
from gateway.bench.plan import Plan
from gateway.bench.site import Say, site
from gateway.bench.visitor import Visitor, visits


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Deliver to a no-op of two blocks, watch the run's stream until `end`, rest, and again; the client's clock."""
    async with site() as place:
        await place.start_gateway()
        await place.start_runner()
        visitor = Visitor(place.port, await place.hook("noop"), place.key)
        say("idle: one delivery after another")
        made = await asyncio.to_thread(visits, visitor, seconds=plan.seconds, pause_s=plan.pause_s)
    accepted = [visit.accepted_s for visit in made]
    ended = [visit.ended_s for visit in made]
    return [
        *latencies("accept, idle", accepted, p50=at_most(1), p99=at_most(5)),
        *latencies("POST to success, no-op of two blocks, idle", ended, p50=at_most(10), p99=at_most(30)),
    ]
