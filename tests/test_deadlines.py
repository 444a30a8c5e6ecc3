"""What the clock does to runs: the one of the database, whoever owns them and however often they changed hands."""

import json
import signal
from pathlib import Path

import pytest

from schemas.store import deadlines, runs
from schemas.store.db import Database
from tests.claiming import Yard
from tests.faults import Connection, assert_history_is_whole, blocks_of, trigger
from tests.system import Penstock
from tests.waiting import eventually

TIMED_OUT = {"type": "RunTimeout", "message": "The run took longer than 1.5 s."}


@pytest.fixture
def yard(db: Database) -> Yard:
    return Yard(db)


async def age(yard: Yard, place: int, seconds: float, column: str = "created_at") -> None:
    """Make a run older than it is, in its id, too."""
    await yard.db.execute(
        f"UPDATE runs SET {column} = now() - $2 * interval '1 second' WHERE id = $1", yard.runs[place], float(seconds)
    )
    if column == "created_at":
        row = await yard.db.fetchrow(
            "UPDATE runs SET id = overlay(uuid_floor(created_at)::text PLACING right(id::text, 17) FROM 20)::uuid "
            "WHERE id = $1 RETURNING id",
            yard.runs[place],
        )
        assert row is not None
        await yard.db.execute("UPDATE changes SET run_id = $1 WHERE run_id = $2", row["id"], yard.runs[place])
        yard.runs[place] = row["id"]


async def expired(yard: Yard) -> list[int]:
    return sorted(yard.runs.index(run_id) for run_id in await deadlines.expire(yard.db, most=500))


async def late(yard: Yard, *, since_s: float = 60, all_active: bool = False) -> list[int]:
    found = await deadlines.mark_late(yard.db, most=500, since_s=since_s, all_active=all_active)
    return sorted(yard.runs.index(run_id) for run_id in found)


async def test_the_smaller_timeout_counts_from_the_first_start(yard: Yard) -> None:
    await yard.open(run_timeout_s=100)
    lenient, strict = [await yard.schedule(run_timeout_s=seconds) for seconds in (1000, 10)]
    for schedule in (None, lenient, strict):
        await yard.queue(schedule_id=schedule)

    first = await yard.claimed(0, 1, 2)
    assert [run.run_timeout_s for run in first] == [100, 100, 10]
    assert [round(run.time_left_s or 0) for run in first] == [100, 100, 10]

    await yard.release(0, 1, 2)
    for place in range(3):
        await age(yard, place, 30, "started_at")
    again = await yard.claimed(0, 1, 2)
    assert [round(run.time_left_s or 0) for run in again] == [70, 70, -20]


async def test_a_run_without_a_timeout_has_all_the_time(yard: Yard) -> None:
    await yard.open()
    await yard.queue()

    [run] = await yard.claimed(0)

    assert (run.run_timeout_s, run.time_left_s) == (None, None)


async def test_runs_that_waited_for_too_long_expire(yard: Yard, connection: Connection) -> None:
    await yard.open()
    impatient, patient = await yard.schedule(max_queue_age_s=10), await yard.schedule()
    await yard.queue(4, schedule_id=impatient)
    await yard.queue(schedule_id=patient)
    await yard.claim(2, 3)
    await yard.release(3)  # it has begun: it does not wait any more
    for place in (0, 2, 3, 4):
        await age(yard, place, 11)

    assert await expired(yard) == [0]
    assert await expired(yard) == []

    run = await runs.get(yard.db, str(yard.runs[0]), largest_body=0)
    assert run.state == "failed"
    message = "The run waited for longer than the 10 s that its schedule allows."
    assert bytes(run.error) == b'{"type" : "Expired", "message" : "%s"}' % message.encode()
    assert await yard.claim(0) == []
    await assert_history_is_whole(connection)


async def test_a_run_is_late_once_its_sla_has_passed_whatever_became_of_it(yard: Yard) -> None:
    await yard.open()
    promised, other = await yard.schedule(sla_s=10), await yard.schedule()
    await yard.queue(5, schedule_id=promised)
    await yard.queue(schedule_id=other)
    await yard.claim(1, 2, 3)
    await yard.end(2, 3)
    for place in (0, 1, 2, 3, 5):
        await age(yard, place, 12)
    await yard.db.execute("UPDATE runs SET finished_at = created_at + interval '9 s' WHERE id = $1", yard.runs[3])

    assert await late(yard) == [0, 1, 2]  # queued, running, and finished too late; not in time, not too young
    assert await late(yard) == []
    assert await yard.claim(0) == [0]


async def test_an_old_run_is_found_late_when_all_active_ones_are_looked_at(yard: Yard) -> None:
    await yard.open()
    promised = await yard.schedule(sla_s=10)
    await yard.queue(3, schedule_id=promised)
    await yard.claim(1, 2)
    await yard.end(2)
    for place in range(3):
        await age(yard, place, 5000)

    assert await late(yard) == []
    assert await late(yard, all_active=True) == [0, 1]


async def test_a_backfill_neither_expires_nor_is_late(yard: Yard) -> None:
    await yard.open()
    schedule = await yard.schedule(sla_s=1, max_queue_age_s=1)
    backfill = await yard.backfill(schedule_id=schedule)
    await yard.queue(schedule_id=schedule, backfill_id=backfill)
    await age(yard, 0, 60)

    assert await expired(yard) == []
    assert await late(yard, since_s=3600, all_active=True) == []


async def test_a_run_that_takes_too_long_is_stopped_and_fails(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    slow, quick = [await trigger(penstock, "in_time", seconds=seconds) for seconds in (20, 0)]

    run = await penstock.ended(slow)

    assert (run["state"], run["error"]) == ("failed", TIMED_OUT)
    assert {name: block["state"] for name, block in (await blocks_of(penstock, slow)).items()} == {"works": "cancelled"}
    assert (await penstock.ended(quick))["state"] == "success"
    await assert_history_is_whole(connection)


async def test_a_run_that_is_taken_over_after_its_time_fails_at_once(
    penstock: Penstock, connection: Connection, tmp_path: Path
) -> None:
    _, victim = await penstock.start()
    diary = tmp_path / "diary"
    run_id = await trigger(penstock, "in_time", diary=str(diary), seconds=20)
    await eventually(diary.exists)
    await victim.end(signal.SIGKILL)
    await connection.execute("UPDATE runs SET started_at = now() - interval '1 minute'")

    await penstock.start_runner()

    run = await penstock.ended(run_id)
    assert (run["state"], run["error"]) == ("failed", TIMED_OUT)
    assert len(diary.read_text().splitlines()) == 1  # nothing was begun again
    await assert_history_is_whole(connection)


async def test_the_time_runs_on_while_a_run_changes_its_owner(penstock: Penstock, connection: Connection) -> None:
    await penstock.start()
    run_id = await trigger(penstock, "crosses_in_time", seconds=0)

    async def is_handed_over() -> bool:
        return (await penstock.run(run_id))["queue"] == "gpu"

    await eventually(is_handed_over)
    await connection.execute("UPDATE runs SET started_at = now() - interval '1 minute'")
    await penstock.start_runner(queues="gpu")

    run = await penstock.ended(run_id)
    assert (run["state"], run["error"]["type"]) == ("failed", "RunTimeout")
    states = {name: block["state"] for name, block in (await blocks_of(penstock, run_id)).items()}
    assert states == {"before": "success", "middle": "cancelled", "after": "cancelled"}


async def test_the_sweepers_expire_and_mark_what_is_due(penstock: Penstock, connection: Connection) -> None:
    _, runner = await penstock.start()
    paused = await penstock.hook("unlimited", max_queue_age_s=1, is_paused=True)
    promised = await penstock.hook("unlimited", sla_s=1, variables={"seconds": 1.5})
    waiting, late_id = await penstock.delivered_run(paused), await penstock.delivered_run(promised)

    async def is_marked() -> bool:
        return bool((await penstock.run(late_id))["passed_sla"])

    await eventually(is_marked)
    run = await penstock.ended(waiting)
    assert (run["state"], run["error"]["type"], run["passed_sla"]) == ("failed", "Expired", False)
    assert (await penstock.ended(late_id))["state"] == "success"
    assert {"runs waited for too long", "runs passed their SLA"} <= {
        json.loads(line)["event"] for line in runner.log.splitlines()
    }
    await assert_history_is_whole(connection)
