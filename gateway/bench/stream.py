"""What watchers cost, and how late and how completely they see what happens."""

import asyncio

import msgspec

from gateway.bench.figures import Figure, at_most, figure
from gateway.bench.plan import Plan
from gateway.bench.processes import cpu_s, resident_bytes
from gateway.bench.site import Say, Site, site
from gateway.bench.watchers import Connected, Crowd, Seen

CHANGES_PER_SECOND = 100
CROWD = 1000  # the goals are for so many
PATIENCE_S = 60.0
SETTLING_S = 0.5
WATCHERS = "gateway.bench.watchers"


class Watched(msgspec.Struct, frozen=True):
    """One run with an audience; `cpu` is the gateway's use of one core while all watched."""

    cpu: float
    seen: Seen


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Let one audience watch where nothing happens, then others a block that logs a hundred lines a second."""
    rows: list[Figure] = []
    async with site() as place:
        gateway = await place.start_gateway()
        per_watcher = await _idle_bytes(place, gateway.pid, max(plan.watchers))
        runner = await place.start_runner()
        for watchers in plan.watchers:
            watched = await _watch(place, gateway.pid, watchers, plan.seconds)
            rows += _rows(watchers, watched)
            say(f"stream: {watchers} watchers, {watched.cpu:.0%} of a core")
        await runner.stop()
    return [*rows, figure("memory per idle watcher", per_watcher / 1024, unit="KB", goal=at_most(20))]


def _rows(watchers: int, watched: Watched) -> list[Figure]:
    name, seen = f"{watchers} watchers x {CHANGES_PER_SECOND} changes/s", watched.seen
    has_goals = watchers == CROWD
    return [
        figure(f"{name}, CPU of the gateway", watched.cpu * 100, unit="%", goal=at_most(50) if has_goals else None),
        figure(f"{name}, delay p50", seen.p50_s * 1000, unit="ms"),
        figure(f"{name}, delay p99", seen.p99_s * 1000, unit="ms", goal=at_most(150) if has_goals else None),
        figure(f"{name}, lost", seen.lost, unit=f"of {seen.changes + seen.lost}", goal=at_most(0)),
    ]


async def _watch(place: Site, gateway: int, watchers: int, seconds: float) -> Watched:
    signal = place.folder / f"begin-{watchers}"
    talk = {"seconds": seconds + SETTLING_S, "per_second": CHANGES_PER_SECOND, "signal": str(signal)}
    run_id = await place.deliver(await place.hook("talkative", variables=talk))
    program = await place.start_asked(WATCHERS)
    await program.ask(_crowd(place, run_id, watchers, seconds=seconds))
    await program.answer(Connected)
    signal.touch()
    loop = asyncio.get_running_loop()
    cpu, begun = cpu_s(gateway), loop.time()
    await asyncio.sleep(seconds)
    share = (cpu_s(gateway) - cpu) / (loop.time() - begun)
    seen = await program.answer(Seen)
    await program.stop()
    return Watched(share, seen)


async def _idle_bytes(place: Site, gateway: int, watchers: int) -> float:
    """Watch a run that stays queued, because no runner is there, and compare the gateway's memory with before."""
    run_id = await place.deliver(await place.hook("noop"))
    few = await _settled_bytes(place, gateway, run_id, max(1, watchers // 10))
    many = await _settled_bytes(place, gateway, run_id, watchers)
    return max(0.0, (many - few) / max(1, watchers - max(1, watchers // 10)))


async def _settled_bytes(place: Site, gateway: int, run_id: str, watchers: int) -> int:
    program = await place.start_asked(WATCHERS)
    await program.ask(_crowd(place, run_id, watchers, seconds=0.0))
    await program.answer(Connected)
    await asyncio.sleep(SETTLING_S)
    used = resident_bytes(gateway)
    await program.stop()
    return used


def _crowd(place: Site, run_id: str, watchers: int, *, seconds: float) -> Crowd:
    return Crowd(
        port=place.port,
        path=f"/v1/runs/{run_id}/stream",
        key=place.key,
        watchers=watchers,
        seconds=seconds,
        patience_s=PATIENCE_S + seconds * 3,
    )
