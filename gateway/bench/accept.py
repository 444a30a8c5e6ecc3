"""Deliveries per second, durably accepted, as a share of what the same server does when it stores nothing."""

import hashlib
import hmac
import secrets
import statistics
from collections.abc import Sequence

import asyncpg
import msgspec

from gateway.bench.figures import Figure, Goal, at_least, figure, median_ratio
from gateway.bench.load import Load, Measured
from gateway.bench.plan import Plan
from gateway.bench.processes import cpu_s
from gateway.bench.site import Say, Site, site
from gateway.cli.up import claim_port

BODY = msgspec.json.encode({"id": 1, "ref": "refs/heads/main", "note": "x" * 950}).decode()
SLOW_DISK = {"commit_delay": 4000, "commit_siblings": 0}  # a group's leader waits 4 ms before each flush
_TOKEN = "of-the-reference"  # noqa: S105 (a name)

BARE = "bare handler"
SINGLE = "one INSERT per request"
DURABLE = "durable accept"
GITHUB = "durable accept, GitHub signature"
RULED = "durable accept, GitHub signature, filter and mapping"
RULES = {
    "filter": "body.ref.startsWith('refs/heads/') && headers['x-github-event'] == 'push'",
    "mapping": {"branch": "body.ref.substring(11)", "delivery": "event.id"},
}


class Contestant(msgspec.Struct, frozen=True):
    """Somebody who takes deliveries, and its process."""

    name: str
    load: Load
    pid: int


class Result(msgspec.Struct, frozen=True):
    """What one contestant did in one round."""

    measured: Measured
    cpu_us: float


async def measure(plan: Plan, say: Say) -> list[Figure]:
    """Load the gateway and what it is compared with in turns, on this disk and on a slow one."""
    return [*await _on_this_disk(plan, say), *await _on_a_slow_disk(plan, say)]


async def _on_this_disk(plan: Plan, say: Say) -> list[Figure]:
    async with site() as place:
        gateway = await place.start_gateway()
        contestants = [
            await _reference(place, "bare", BARE, connections=plan.connections),
            Contestant(DURABLE, await _durable(place, plan.connections), gateway.pid),
            Contestant(GITHUB, await _github(place, plan.connections), gateway.pid),
            Contestant(RULED, await _github(place, plan.connections, **RULES), gateway.pid),
            await _reference(place, "single", SINGLE, connections=plan.connections),
        ]
        results = await _compete(place, contestants, plan, say)
    goals = {DURABLE: at_least(0.70), RULED: at_least(0.50)}
    return [row for name in results for row in _rows(name, results, BARE, goal=goals.get(name))]


async def _on_a_slow_disk(plan: Plan, say: Say) -> list[Figure]:
    async with site() as place:
        await _slow_down(place)
        gateway = await place.start_gateway()
        contestants = [
            await _reference(place, "single", SINGLE, connections=plan.slow_connections),
            Contestant(DURABLE, await _durable(place, plan.slow_connections), gateway.pid),
        ]
        results = await _compete(place, contestants, plan, say)
    rows = [*_rows(SINGLE, results, SINGLE), *_rows(DURABLE, results, SINGLE, goal=at_least(3.0))]
    return [msgspec.structs.replace(row, name=f"{row.name}, slow disk") for row in rows]


async def _compete(place: Site, contestants: Sequence[Contestant], plan: Plan, say: Say) -> dict[str, list[Result]]:
    """Take turns, so that whatever else this machine does hits all alike."""
    results: dict[str, list[Result]] = {contestant.name: [] for contestant in contestants}
    for number in range(plan.rounds):
        for contestant in contestants:
            before = cpu_s(contestant.pid)
            load = msgspec.structs.replace(contestant.load, seconds=plan.seconds, warm_up_s=plan.seconds / 10)
            measured = await place.load(load)
            cpu_us = (cpu_s(contestant.pid) - before) / measured.accepted * 1e6
            results[contestant.name].append(Result(measured, cpu_us))
            say(f"accept, round {number + 1}: {contestant.name} {measured.per_second:,.0f}/s")
    return results


def _rows(name: str, results: dict[str, list[Result]], reference: str, *, goal: Goal | None = None) -> list[Figure]:
    """Make the rows of one contestant: medians over the rounds, and the median of the ratios within a round."""
    own, others = results[name], results[reference]
    ratio = median_ratio([r.measured.per_second for r in own], [r.measured.per_second for r in others])
    cpu_ratio = median_ratio([r.cpu_us for r in own], [r.cpu_us for r in others])
    rate = statistics.median(r.measured.per_second for r in own)
    is_compared = name != reference
    return [
        figure(
            name,
            rate,
            unit="1/s",
            ratio=ratio if is_compared else None,
            ratio_to=reference if is_compared else None,
            goal=goal,
        ),
        figure(f"{name}, p50", statistics.median(r.measured.p50_s for r in own) * 1000, unit="ms"),
        figure(f"{name}, p99", statistics.median(r.measured.p99_s for r in own) * 1000, unit="ms"),
        figure(
            f"{name}, CPU of the server per request",
            statistics.median(r.cpu_us for r in own),
            unit="us",
            ratio=cpu_ratio if is_compared else None,
            ratio_to=reference if is_compared else None,
        ),
    ]


async def _reference(place: Site, kind: str, name: str, *, connections: int) -> Contestant:
    port = claim_port("127.0.0.1", 0)
    program = await place.start_server("gateway.bench.references", kind, _TOKEN, port=port)
    load = Load(port=port, path=f"/hooks/1/{_TOKEN}", body=BODY, connections=connections)
    return Contestant(name, load, program.pid)


async def _durable(place: Site, connections: int) -> Load:
    return Load(port=place.port, path=await place.hook("noop"), body=BODY, connections=connections)


async def _github(place: Site, connections: int, **rules: object) -> Load:
    """Sign as GitHub does; each delivery has an id of its own, so that each is looked up and becomes a run."""
    secret = secrets.token_hex(20)
    headers = {
        "user-agent": "GitHub-Hookshot/bench",
        "x-github-event": "push",
        "x-github-delivery": "bench-{{number}}",
        "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), BODY.encode(), hashlib.sha256).hexdigest(),
    }
    hook = await place.hook("noop", source="github", source_config={"secrets": [secret]}, **rules)
    return Load(port=place.port, path=hook, body=BODY, headers=headers, connections=connections)


async def _slow_down(place: Site) -> None:
    connection = await asyncpg.connect(place.servers.database_url)
    try:
        for name, value in SLOW_DISK.items():
            await connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()
