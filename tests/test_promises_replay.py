"""Replays of many: each event exactly once, in order and no faster than asked for, whichever gateway dies meanwhile."""

import asyncio
import datetime as dt
import signal
from itertools import pairwise

from tests.faults import Connection, all_ended, assert_history_is_whole, post
from tests.system import Json, Penstock, free_port
from tests.waiting import eventually

ORDER = "SELECT event_id FROM runs WHERE replay_id = $1 ORDER BY number"


async def delivered(penstock: Penstock, count: int, **fields: object) -> str:
    """Deliver so often and return the schedule's id."""
    hook = await penstock.hook("quick", **fields)
    for n in range(count):
        status, _ = await post(hook, b"[%d, 0]" % n)
        assert status == 202
    return hook.split("/")[-2]


async def replay(penstock: Penstock, schedule_id: str, **body: object) -> Json:
    answer = await penstock.client.post("/v1/events/replay", json={"filter": {"schedule_id": schedule_id}} | body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def reached(connection: Connection, replay_id: str, *, runs: int, within: float = 30) -> None:
    """Wait until so many runs were made."""

    async def are_made() -> bool:
        made = await connection.fetchval("SELECT count(*) FROM runs WHERE replay_id = $1", replay_id)
        return bool(made >= runs)

    await eventually(are_made, timeout=within)


async def completed(connection: Connection, replay_id: str) -> None:
    async def is_completed() -> bool:
        return await connection.fetchval("SELECT state FROM replays WHERE id = $1", replay_id) == "completed"

    await eventually(is_completed, timeout=40)


async def test_a_gateway_that_is_killed_midway_costs_no_event_and_repeats_none(
    penstock: Penstock, connection: Connection
) -> None:
    gateway, _ = await penstock.start()
    schedule_id = await delivered(penstock, 60, split=True)
    begun = await replay(penstock, schedule_id, rate_per_s=40, mode="today")
    port = free_port()
    for killed in range(3):
        await reached(connection, begun["id"], runs=12 * (killed + 1))
        other = await penstock.start_gateway(port=port)
        await gateway.end(signal.SIGKILL)
        gateway, port = other, free_port()

    await completed(connection, begun["id"])

    done = await connection.fetchrow("SELECT * FROM replays WHERE id = $1", begun["id"])
    assert done is not None
    assert (done["accepted"], done["runs"], done["skipped"]) == (60, 120, 0)
    oldest_first = [row["id"] for row in await connection.fetch("SELECT id FROM events ORDER BY id")]
    made = [row["event_id"] for row in await connection.fetch(ORDER, begun["id"])]
    assert made == [event_id for event_id in oldest_first for _ in range(2)]
    assert await all_ended(connection, within=30) == {"success": 240}
    await assert_history_is_whole(connection)


async def test_several_gateways_replay_no_faster_than_asked_for(penstock: Penstock, connection: Connection) -> None:
    ports = [free_port() for _ in range(2)]
    await asyncio.gather(penstock.start(), *(penstock.start_gateway(port=port) for port in ports))
    schedule_id = await delivered(penstock, 45)

    begun = await replay(penstock, schedule_id, rate_per_s=20)
    await completed(connection, begun["id"])

    moments = [
        row["created_at"]
        for row in await connection.fetch("SELECT created_at FROM runs WHERE replay_id = $1 ORDER BY 1", begun["id"])
    ]
    assert len(moments) == 45
    assert moments[-1] - moments[0] > dt.timedelta(seconds=45 / 20 - 0.5)
    for first in range(20):
        within_a_second = [
            moment for moment in moments if moments[first] <= moment < moments[first] + dt.timedelta(seconds=1)
        ]
        assert len(within_a_second) <= 20 + 4 + 2  # one step more than there is room for, and what lagged behind


async def test_a_replay_goes_on_after_no_gateway_was_there(penstock: Penstock, connection: Connection) -> None:
    gateway, _ = await penstock.start()
    schedule_id = await delivered(penstock, 30)
    begun = await replay(penstock, schedule_id, rate_per_s=10)
    await reached(connection, begun["id"], runs=4)

    assert await gateway.end() == 0
    stood = await connection.fetchval("SELECT count(*) FROM runs WHERE replay_id = $1", begun["id"])
    await penstock.start_gateway()
    await completed(connection, begun["id"])

    assert 4 <= stood < 30
    numbers = [
        row["number"]
        for row in await connection.fetch("SELECT number FROM runs WHERE replay_id = $1 ORDER BY event_id", begun["id"])
    ]
    assert len(numbers) == 30
    assert all(one < next_one for one, next_one in pairwise(numbers))
