"""No limit of active runs is passed, what waits under one starts in order and at once, and nobody is left behind."""

import asyncio
import datetime as dt
import itertools
import signal
from pathlib import Path

import pytest

from gateway import embedded
from schemas.store.db import Database
from tests.claiming import Yard
from tests.faults import (
    Connection,
    all_ended,
    assert_history_is_whole,
    fragile_penstock,
    kill_redis,
    post,
    trigger,
)
from tests.system import Penstock
from tests.waiting import eventually

MANY = 6
SELDOM_S = 60  # so seldom does the sweeper look that it has no part in a test
DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def yard(db: Database) -> Yard:
    return Yard(db)


async def test_whichever_run_is_rung_the_oldest_starts(yard: Yard) -> None:
    await yard.open(max_active_runs=1)
    await yard.queue(3)

    assert await yard.claim(2) == [0]
    assert await yard.claim(1, 2) == []
    await yard.end(0)
    assert await yard.claim(0) == [1]  # the one that ended is rung again: look there


async def test_as_many_start_as_were_rung_and_as_there_is_room_for(yard: Yard) -> None:
    await yard.open(max_active_runs=3)
    await yard.queue(6)

    assert await yard.claim(4, 5) == [0, 1]
    assert await yard.claim(2, 3, 4, 5) == [2]


async def test_lanes_take_turns_even_when_there_is_room_for_one(yard: Yard) -> None:
    await yard.open(max_active_runs=1)
    for schedule in [await yard.schedule() for _ in range(2)]:
        await yard.queue(3, schedule_id=schedule)
    await yard.queue(3)
    backfill = await yard.backfill()
    for day in range(3):
        await yard.queue(backfill_id=backfill, origin="backfill", logical_date=DAY + dt.timedelta(day))

    order = []
    for _ in range(12):
        order += (started := await yard.claim(0))
        await yard.end(*started)

    assert len(set(order)) == 12
    rounds = [order[first : first + 4] for first in (0, 4, 8)]
    assert [sorted(place // 3 for place in each) for each in rounds] == [[0, 1, 2, 3]] * 3
    assert [sorted(place for place in order if place // 3 == lane) for lane in range(4)] == [
        [place for place in order if place // 3 == lane] for lane in range(4)
    ]


async def test_a_schedule_at_its_own_limit_leaves_the_rest_of_the_pipeline_alone(yard: Yard) -> None:
    await yard.open()
    narrow, wide = await yard.schedule(max_active_runs=1), await yard.schedule()
    await yard.queue(3, schedule_id=narrow)
    await yard.queue(3, schedule_id=wide)

    assert await yard.due() == [0, 3, 4, 5]
    assert await yard.claim(1, 2) == [0]
    assert await yard.due() == [3, 4, 5]
    assert await yard.claim(5, 3) == [3, 5]  # no limit: these very runs


async def test_a_backfill_keeps_to_its_own_limit_and_to_that_of_its_schedule(yard: Yard) -> None:
    await yard.open()
    schedule = await yard.schedule(max_active_runs=2)
    backfill = await yard.backfill(max_active_runs=2, schedule_id=schedule)
    for day in range(3):
        columns = {"origin": "backfill", "logical_date": DAY + dt.timedelta(day)}
        await yard.queue(backfill_id=backfill, schedule_id=schedule, **columns)
    await yard.queue(2, schedule_id=schedule)

    assert len(await yard.due()) == 2
    started = await yard.claim(0, 1, 2, 3, 4)
    assert started == [0, 3]
    await yard.end(0, 3)
    assert await yard.claim(0, 1, 2, 3, 4) == [1, 4]


async def test_a_backfill_without_a_schedule_is_under_its_limit_alone(yard: Yard) -> None:
    await yard.open()
    backfill = await yard.backfill(max_active_runs=2)
    for day in range(4):
        await yard.queue(backfill_id=backfill, origin="backfill", logical_date=DAY + dt.timedelta(day))
    await yard.queue()

    assert sorted(await yard.due()) == [0, 1, 4]
    assert await yard.claim(3, 4) == [0, 4]
    assert await yard.claim(3, 2, 1) == [1]
    assert await yard.due() == []


@pytest.mark.parametrize("held", ["is_paused = true", "cancelled_at = now()"])
async def test_a_paused_or_cancelled_backfill_waits(yard: Yard, held: str) -> None:
    await yard.open()
    backfill = await yard.backfill(max_active_runs=2)
    await yard.queue(2, backfill_id=backfill)
    await yard.claim(0)
    await yard.release(0)
    await yard.db.execute(f"UPDATE backfills SET {held}")

    assert await yard.due() == []
    assert await yard.claim(0, 1) == []
    await yard.db.execute("UPDATE backfills SET is_paused = false, cancelled_at = NULL")
    assert await yard.claim(0, 1) == [0, 1]


async def test_a_run_that_has_begun_keeps_its_place_while_it_changes_its_owner(yard: Yard) -> None:
    await yard.open(max_active_runs=2)
    await yard.queue(4)
    assert await yard.claim(0, 1) == [0, 1]
    await yard.release(1)

    assert await yard.due() == [1]
    assert await yard.claim(3, 2) == [1]
    assert await yard.due() == []


WAITS, STARTS = False, True
PAUSES = [  # pipeline is paused, its on_paused, schedule is paused (None: no schedule), its on_paused
    (False, "queue", None, None, STARTS),
    (True, "queue", None, None, WAITS),
    (True, "reject", None, None, WAITS),
    (True, "run", None, None, STARTS),
    (False, "queue", False, "queue", STARTS),
    (False, "queue", True, "queue", WAITS),
    (False, "queue", True, "reject", WAITS),
    (False, "queue", True, "run", STARTS),
    (False, "run", True, "queue", WAITS),
    (True, "queue", False, "queue", WAITS),
    (True, "queue", False, "run", STARTS),
    (True, "queue", True, "run", STARTS),
    (True, "run", False, "queue", STARTS),
    (True, "run", False, "reject", STARTS),
    (True, "run", True, "queue", WAITS),
    (True, "run", True, "run", STARTS),
]


@pytest.mark.parametrize("limit", [None, 5], ids=["unlimited", "limited"])
async def test_who_is_paused_waits_and_who_shall_run_although_paused_starts(yard: Yard, limit: int | None) -> None:
    await yard.open(max_active_runs=limit)
    for pipeline_is_paused, pipeline_on_paused, schedule_is_paused, schedule_on_paused, starts in PAUSES:
        await yard.db.execute("DELETE FROM runs")
        await yard.db.execute(
            "UPDATE pipelines SET is_paused = $1, on_paused = $2", pipeline_is_paused, pipeline_on_paused
        )
        schedule = None
        if schedule_is_paused is not None:
            schedule = await yard.schedule(is_paused=schedule_is_paused, on_paused=schedule_on_paused)
        [place] = await yard.queue(schedule_id=schedule)

        due, claimed = await yard.due(), await yard.claim(place)

        case = (pipeline_is_paused, pipeline_on_paused, schedule_is_paused, schedule_on_paused)
        assert (case, due, claimed) == (case, *([[place]] * 2 if starts else [[], []]))
        await yard.end(place)


async def test_many_claimers_at_once_pass_no_limit(yard: Yard) -> None:
    await yard.open(max_active_runs=3)
    await yard.queue(20)

    started = await asyncio.gather(*(yard.claim(place, place + 10) for place in range(10)))

    assert sorted(itertools.chain.from_iterable(started)) == [0, 1, 2]


async def gaps_and_order(connection: Connection) -> tuple[list[float], list[int]]:
    """Say how long the place of each run stood empty before the next one took it, in s, and in which order they ran."""
    rows = await connection.fetch("SELECT number, started_at, finished_at FROM runs ORDER BY started_at")
    gaps = [(late["started_at"] - early["finished_at"]).total_seconds() for early, late in itertools.pairwise(rows)]
    return gaps, [row["number"] for row in rows]


async def test_a_place_that_becomes_free_is_taken_at_once_and_in_order(
    penstock: Penstock, connection: Connection
) -> None:
    await penstock.start(sweep_s=SELDOM_S)
    for _ in range(MANY):
        await trigger(penstock, "one_at_a_time", seconds=0.1)

    assert await all_ended(connection, within=20) == {"success": MANY}

    gaps, order = await gaps_and_order(connection)
    assert order == sorted(order)
    assert min(gaps) >= 0
    assert sorted(gaps)[MANY // 2] < 0.25
    await assert_history_is_whole(connection)


async def test_without_redis_what_waits_goes_on_all_the_same(tmp_path: Path) -> None:
    with embedded.running(tmp_path / "servers") as servers:
        async with fragile_penstock(servers, tmp_path, sweep_s=SELDOM_S) as penstock:
            await penstock.start()
            run_ids = [await trigger(penstock, "one_at_a_time", seconds=0.3) for _ in range(MANY)]

            await kill_redis(servers.redis)

            for run_id in run_ids:
                assert (await penstock.ended(run_id))["state"] == "success"


async def test_the_place_of_a_run_whose_runner_was_killed_is_not_lost(
    penstock: Penstock, connection: Connection
) -> None:
    _, victim = await penstock.start(sweep_s=0.2)
    run_ids = [await trigger(penstock, "one_at_a_time", seconds=0.5) for _ in range(MANY // 2)]

    async def second_is_running() -> bool:
        return (await penstock.run(run_ids[1]))["state"] == "running"

    await eventually(second_is_running)
    await victim.end(signal.SIGKILL)
    await penstock.start_runner(sweep_s=0.2)

    assert await all_ended(connection, within=30) == {"success": MANY // 2}
    gaps, order = await gaps_and_order(connection)
    assert order == sorted(order)
    assert min(gaps) >= 0
    assert (await penstock.run(run_ids[1]))["attempt"] == 2
    await assert_history_is_whole(connection)


async def test_a_runner_that_drains_leaves_the_next_run_to_another(penstock: Penstock, connection: Connection) -> None:
    _, leaving = await penstock.start(sweep_s=0.2)
    hook = await penstock.hook("one_at_a_time", variables={"seconds": 0.5})
    for _ in range(3):
        await post(hook)

    async def one_is_running() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM runs WHERE state = 'running'"))

    await eventually(one_is_running)
    await asyncio.gather(leaving.end(), penstock.start_runner(sweep_s=0.2))

    assert await all_ended(connection, within=20) == {"success": 3}
    assert await connection.fetchval("SELECT max(attempt) FROM runs") == 1
