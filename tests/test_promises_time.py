"""Each slot of a schedule in time becomes one run, however many runners look, die, sleep or misjudge the time."""

import asyncio
import datetime as dt
import itertools
import signal
import textwrap
from pathlib import Path

import pytest

from tests.faults import Connection, all_ended, assert_history_is_whole
from tests.system import Penstock, free_port
from tests.waiting import eventually

SECOND = dt.timedelta(seconds=1)
WRONG_CLOCK = """
import os, time

off_s = float(os.environ["CLOCK_OFF_S"])
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + off_s
time.time_ns = lambda: right_ns() + int(off_s * 1e9)
"""


async def timed(penstock: Penstock, pipeline_id: str = "quick", **fields: object) -> str:
    """Create a schedule in time, that of every second unless it says otherwise, and give its id."""
    fields = {"kind": "time", "every_s": 1, "catchup": True} | fields
    return str((await penstock.schedule(pipeline_id, **fields))["id"])


async def slots_of(connection: Connection, schedule_id: str) -> list[dt.datetime]:
    rows = await connection.fetch("SELECT logical_date FROM runs WHERE schedule_id = $1 ORDER BY id", schedule_id)
    return [row["logical_date"] for row in rows]


async def fired(connection: Connection, schedule_id: str, count: int, *, within: float = 30) -> list[dt.datetime]:
    """Wait until so many slots of a schedule have fired."""

    async def enough() -> bool:
        return len(await slots_of(connection, schedule_id)) >= count

    await eventually(enough, timeout=within)
    return await slots_of(connection, schedule_id)


async def passed(connection: Connection, seconds: float) -> None:
    """Wait until so much of the database's time has passed."""
    until = await connection.fetchval("SELECT clock_timestamp() + $1 * interval '1 second'", seconds)

    async def is_over() -> bool:
        over: bool = await connection.fetchval("SELECT clock_timestamp() > $1", until)
        return over

    await eventually(is_over, timeout=seconds + 10)


async def set_back(connection: Connection, schedule_id: str, by: dt.timedelta) -> None:
    """Make a clock miss some time."""
    await connection.execute(
        "UPDATE clocks SET next_slot = next_slot - $2::interval, due_at = due_at - $2::interval WHERE schedule_id = $1",
        schedule_id,
        by,
    )


def steps(slots: list[dt.datetime]) -> set[dt.timedelta]:
    """Say how far apart neighbours are: {1 s} when no slot of a schedule of every second is missing or there twice."""
    return {later - earlier for earlier, later in itertools.pairwise(slots)}


async def test_five_runners_fire_each_slot_once_and_miss_none_also_when_two_are_killed(
    penstock: Penstock, connection: Connection
) -> None:
    _, *runners = await asyncio.gather(penstock.start_gateway(), *(penstock.start_runner() for _ in range(5)))
    schedules = [await timed(penstock, name=str(number)) for number in range(3)]

    for count, runner in zip((4, 6), runners, strict=False):
        await fired(connection, schedules[0], count)
        await runner.end(signal.SIGKILL)
    for schedule_id in schedules:
        assert steps(await fired(connection, schedule_id, 8)) == {SECOND}
    for schedule_id in schedules:
        await penstock.client.delete(f"/v1/schedules/{schedule_id}")
    assert set(await all_ended(connection, within=30)) == {"success"}
    late = await connection.fetchval(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY created_at - logical_date) FROM runs"
    )
    assert late < SECOND / 2
    await assert_history_is_whole(connection)


async def test_what_was_missed_while_all_runners_were_dead_is_caught_up_or_its_newest_slot_is(
    penstock: Penstock, connection: Connection
) -> None:
    _, runner = await penstock.start()
    patient, hasty = await timed(penstock, catchup=True), await timed(penstock, catchup=False)
    await fired(connection, patient, 2)
    await fired(connection, hasty, 2)

    await runner.end(signal.SIGKILL)
    before = len(await slots_of(connection, hasty))
    await passed(connection, 4)
    await penstock.start_runner()

    slots = await fired(connection, patient, before + 6)
    assert steps(slots) == {SECOND}
    slots = await fired(connection, hasty, before + 2)
    assert slots[before] - slots[before - 1] >= 4 * SECOND
    age = await connection.fetchval(
        "SELECT created_at - logical_date FROM runs WHERE schedule_id = $1 AND logical_date = $2", hasty, slots[before]
    )
    assert age < 2 * SECOND


async def test_slots_fire_and_their_runs_are_executed_while_redis_is_away(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    schedule_id = await timed(penstock)

    assert steps(await fired(connection, schedule_id, 3)) == {SECOND}
    await penstock.client.delete(f"/v1/schedules/{schedule_id}")
    assert set(await all_ended(connection, within=30)) == {"success"}


async def test_a_runner_whose_clock_is_wrong_fires_at_the_databases_time(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(WRONG_CLOCK))
    await penstock.start_gateway()
    for off_s in ("86400", "-86400"):
        penstock.environ |= {"PYTHONPATH": str(tmp_path), "CLOCK_OFF_S": off_s}
        await penstock.start_runner()
    schedule_id = await timed(penstock)

    assert steps(await fired(connection, schedule_id, 5)) == {SECOND}
    wrong = await connection.fetchval(
        """SELECT count(*) FROM runs WHERE created_at < logical_date OR created_at > logical_date + interval '5 s'
           OR id < uuid_floor(created_at - interval '5 s') OR id > uuid_floor(created_at + interval '5 s')"""
    )
    assert wrong == 0


@pytest.mark.parametrize("paused", ["schedules", "pipelines"])
async def test_a_paused_clock_stands_and_goes_on_as_catchup_says(
    shared: Penstock, shared_connection: Connection, paused: str
) -> None:
    patient = await timed(shared, every_s=3600, catchup=True)
    hasty = await timed(shared, every_s=3600, catchup=False)
    reckless = await timed(shared, every_s=3600, on_paused="run")
    each = [f"/v1/schedules/{schedule_id}" for schedule_id in (patient, hasty, reckless)]
    pausable = each if paused == "schedules" else ["/v1/pipelines/quick"]

    for thing in pausable:
        await shared.client.patch(thing, json={"is_paused": True})
    try:
        for schedule_id in (patient, hasty, reckless):
            await set_back(shared_connection, schedule_id, dt.timedelta(hours=5))
        await fired(shared_connection, reckless, 5)
        assert await slots_of(shared_connection, patient) == await slots_of(shared_connection, hasty) == []
    finally:
        for thing in pausable:
            await shared.client.patch(thing, json={"is_paused": False})

    slots = await fired(shared_connection, patient, 5)
    assert await fired(shared_connection, hasty, 1) == slots[-1:]
    assert steps(slots) == {dt.timedelta(hours=1)}
    for schedule in each:
        await shared.client.delete(schedule)


async def test_a_slot_is_skipped_and_counted_while_the_previous_run_is_active(
    shared: Penstock, shared_connection: Connection
) -> None:
    schedule_id = await timed(shared, "steps", overlap="skip", variables={"seconds": 0.25})
    await fired(shared_connection, schedule_id, 3)
    await shared.client.delete(f"/v1/schedules/{schedule_id}")

    skipped = await shared_connection.fetchval("SELECT skipped FROM clocks WHERE schedule_id = $1", schedule_id)
    assert skipped >= 2
    assert any("slots are skipped" in process.log for process in shared.processes)
    overlapping = await shared_connection.fetchval(
        """SELECT count(*) FROM runs earlier JOIN runs later ON earlier.id < later.id
           WHERE (earlier.schedule_id, later.schedule_id) = ($1, $1)
             AND (earlier.finished_at IS NULL OR earlier.finished_at > later.created_at)""",
        schedule_id,
    )
    assert overlapping == 0


async def test_a_long_outage_is_caught_up_in_batches_oldest_first_also_for_a_pipeline_that_is_broken(
    shared: Penstock, shared_connection: Connection
) -> None:
    schedule_id = await timed(shared, "unreadable", every_s=60)
    await set_back(shared_connection, schedule_id, dt.timedelta(minutes=250))

    slots = await fired(shared_connection, schedule_id, 250)
    await shared.client.delete(f"/v1/schedules/{schedule_id}")
    assert slots == sorted(slots)
    assert steps(slots) == {dt.timedelta(minutes=1)}
    found = await shared_connection.fetchrow(
        """SELECT array_agg(DISTINCT state) AS states, array_agg(DISTINCT origin) AS origins,
                  count(DISTINCT xmin::text) AS commits
           FROM runs WHERE schedule_id = $1""",
        schedule_id,
    )
    assert found is not None
    assert (found["states"], found["origins"]) == (["queued"], ["time"])
    assert found["commits"] >= 3
    await shared_connection.execute("DELETE FROM runs WHERE schedule_id = $1", schedule_id)


async def test_a_clock_that_cannot_be_read_loses_no_slot_and_holds_nobody_up(
    shared: Penstock, shared_connection: Connection
) -> None:
    broken, whole = await timed(shared, every_s=3600), await timed(shared, every_s=3600)
    await shared_connection.execute("UPDATE schedules SET timezone = 'Mars/Base' WHERE id = $1", broken)
    for schedule_id in (broken, whole):
        await set_back(shared_connection, schedule_id, dt.timedelta(hours=1))

    async def is_postponed() -> bool:
        postponed: bool = await shared_connection.fetchval(
            "SELECT next_slot < now() AND due_at > now() + interval '30 s' FROM clocks WHERE schedule_id = $1", broken
        )
        return postponed

    await eventually(is_postponed)
    slots = await fired(shared_connection, whole, 1)
    assert await slots_of(shared_connection, broken) == []
    assert any("schedule cannot be read" in process.log for process in shared.processes)

    await shared_connection.execute("UPDATE schedules SET timezone = 'UTC' WHERE id = $1", broken)
    await shared_connection.execute("UPDATE clocks SET due_at = next_slot WHERE schedule_id = $1", broken)
    assert await fired(shared_connection, broken, 1) == slots
    for schedule_id in (broken, whole):
        await shared.client.delete(f"/v1/schedules/{schedule_id}")
