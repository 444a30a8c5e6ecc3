"""G13: a busy schedule does not stand in the way of the others, and no limit of active runs is ever passed."""

import asyncio

from tests.faults import Connection, all_ended, assert_history_is_whole, post
from tests.system import Penstock

MANY = 500
LIMIT = 2  # of the pipeline `limited`


async def ranks(connection: Connection, hook: str) -> list[int]:
    """Say at which places, from 0, the runs of a schedule were started among all."""
    started = await connection.fetch(
        "SELECT r.schedule_id, s.number FROM runs r JOIN schedules s ON s.id = r.schedule_id "
        "ORDER BY r.started_at, r.id"
    )
    schedule = hook.rsplit("/", 2)[1]
    return [place for place, row in enumerate(started) if schedule in (str(row["schedule_id"]), str(row["number"]))]


async def most_at_once(connection: Connection, where: str = "true") -> int:
    """Count how many runs executed at the same moment, at most."""
    most: int = await connection.fetchval(
        f"""SELECT max(active) FROM (
                SELECT sum(step) OVER (ORDER BY at, step) AS active
                FROM (SELECT started_at AS at, 1 AS step FROM runs WHERE {where}
                      UNION ALL SELECT finished_at, -1 FROM runs WHERE {where}) moments) counted"""
    )
    return most


async def test_one_delivery_does_not_wait_behind_five_hundred_of_another_schedule(
    penstock: Penstock, connection: Connection
) -> None:
    _, runner = await penstock.start(max_runs=2)
    busy, other = await penstock.hook("quick"), await penstock.hook("quick")
    await runner.end()

    answers = await asyncio.gather(*(post(busy) for _ in range(MANY)), post(other))
    assert {status for status, _ in answers} == {202}
    await penstock.start_runner(max_runs=2)

    assert await all_ended(connection, within=60) == {"success": MANY + 1}
    [place] = await ranks(connection, other)
    assert place < MANY * 0.8
    assert await most_at_once(connection) <= 2


async def test_a_limit_of_active_runs_is_kept_and_shared_by_the_schedules(
    penstock: Penstock, connection: Connection
) -> None:
    await asyncio.gather(penstock.start(sweep_s=0.1), penstock.start_runner(sweep_s=0.1))
    busy, other = await penstock.hook("limited"), await penstock.hook("limited")
    await asyncio.gather(*(post(busy) for _ in range(16)))
    await asyncio.gather(*(post(other) for _ in range(2)))

    assert await all_ended(connection, within=30) == {"success": 18}

    assert await most_at_once(connection) == LIMIT
    assert max(await ranks(connection, other)) < 10
    await assert_history_is_whole(connection)


async def test_a_schedule_at_its_own_limit_leaves_the_pipeline_to_the_others(
    penstock: Penstock, connection: Connection
) -> None:
    await asyncio.gather(penstock.start(sweep_s=0.1), penstock.start_runner(sweep_s=0.1))
    narrow, wide = await penstock.hook("limited", max_active_runs=1), await penstock.hook("limited")
    await asyncio.gather(*(post(narrow) for _ in range(6)))
    await asyncio.gather(*(post(wide) for _ in range(6)))

    assert await all_ended(connection, within=30) == {"success": 12}

    assert await most_at_once(connection, "schedule_id = (SELECT id FROM schedules WHERE max_active_runs = 1)") == 1
    assert await most_at_once(connection) == LIMIT
    assert min(await ranks(connection, wide)) < 4
