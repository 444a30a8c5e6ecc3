"""What Penstock keeps in memory while it has nothing to do."""

import asyncio

from gateway.bench.figures import Figure, at_most, figure
from gateway.bench.plan import Plan
from gateway.bench.processes import descendants, proportional_bytes
from gateway.bench.site import Say, site

SETTLING_S = 2.0  # a runner replaces its hosts once when it has read the pipelines
_MB = 1 << 20


async def measure(_plan: Plan, say: Say) -> list[Figure]:
    """Add up what the kernel says, of what processes share only their part."""
    async with site() as place:
        gateway = await place.start_gateway()
        runner = await place.start_runner()
        await asyncio.sleep(SETTLING_S)
        hosts = descendants(runner.pid)
        say(f"memory: one gateway, one runner with {len(hosts)} hosts")
        gateway_mb = proportional_bytes(gateway.pid) / _MB
        runner_mb = sum(map(proportional_bytes, [runner.pid, *hosts])) / _MB
    return [
        figure("gateway, idle", gateway_mb, unit="MB", goal=at_most(120)),
        figure(f"runner with {len(hosts)} hosts, idle", runner_mb, unit="MB", goal=at_most(200)),
    ]
