"""Steps of a replay: whoever writes one moves the cursor, and whoever comes too late writes nothing."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.events import EventFilter
from schemas.ids import SMALLEST_ID, new_id
from schemas.pipelines import Definition, Graph
from schemas.replays import ChosenEvents, PlannedReplay, ReplayedRun, ReplayStep, Tally, as_filter
from schemas.schedules import NewSchedule
from schemas.states import Verdict
from schemas.store import pipelines, replays, schedules
from schemas.store.db import Database
from schemas.store.replays import RunsOfEvent
from tests.faults import Connection


async def made_for(db: Database, event_ids: Sequence[uuid.UUID], *, items: int = 1) -> list[RunsOfEvent]:
    """Plan runs of events of one schedule."""
    definition = Definition(path="p.py", id="orders", version="1", graph=Graph(blocks=()))
    await pipelines.publish(db, [definition])
    schedule = await schedules.create(db, NewSchedule(pipeline_id="orders", name="orders"))
    gate = (await schedules.gates(db, [schedule.id]))[schedule.id]
    return [
        RunsOfEvent(
            event_id,
            gate,
            [
                ReplayedRun(run_id=new_id(), item=n, variables=msgspec.Raw(b"{}"), event_item=None, parent_id=None)
                for n in range(items)
            ],
        )
        for event_id in event_ids
    ]


async def begun(db: Database) -> ReplayStep:
    replay_id = new_id()
    await replays.create(
        db,
        PlannedReplay(
            id=replay_id,
            requested_by="somebody",
            filter=ChosenEvents(source="generic"),
            mode=None,
            schedule_id=None,
            rate_per_s=10,
        ),
    )
    step = await replays.take(db, lease_s=0)
    assert step is not None
    assert (step.id, step.cursor_id, step.left) == (replay_id, SMALLEST_ID, None)
    return step


async def write(db: Database, step: ReplayStep, made: Sequence[RunsOfEvent], *, has_ended: bool = False) -> int | None:
    """Write a step and count its runs; None when it was refused."""
    tally = Tally(accepted=len(made), runs=sum(len(one.runs) for one in made))
    until = made[-1].event_id
    numbers = await replays.write_step(db, step, tally, made, until=until, pause_s=0, has_ended=has_ended)
    return None if numbers is None else len(numbers)


async def test_of_two_who_took_the_same_step_one_writes_it(db: Database, connection: Connection) -> None:
    step = await begun(db)
    again = await replays.take(db, lease_s=60)  # the lease of the first is over
    assert again is not None
    made = await made_for(db, [new_id(), new_id()], items=2)

    assert [await write(db, step, made), await write(db, again, made)] == [4, None]

    assert await connection.fetchval("SELECT count(*) FROM runs") == 4
    assert await connection.fetchval("SELECT count(*) FROM changes") == 4
    now = await replays.get(db, str(step.id))
    assert (now.accepted, now.runs, now.state) == (2, 4, "running")


async def test_a_run_that_is_there_already_stays_the_only_one(db: Database, connection: Connection) -> None:
    step = await begun(db)
    event_id = new_id()
    [first] = made = await made_for(db, [event_id], items=2)
    await write(db, step, made)
    other = msgspec.structs.replace(first, runs=[msgspec.structs.replace(run, run_id=new_id()) for run in first.runs])

    assert await replays.add_runs(db, step.id, [other]) == {}

    assert await connection.fetchval("SELECT count(*) FROM runs") == 2
    assert await connection.fetchval("SELECT count(*) FROM changes") == 2


async def test_a_step_that_is_leased_is_taken_by_nobody_else(db: Database) -> None:
    await begun(db)

    assert await replays.take(db, lease_s=60) is not None
    assert await replays.take(db, lease_s=60) is None
    assert 50 < (await replays.next_due_s(db) or 0) <= 60


async def test_a_cancelled_replay_writes_nothing_more(db: Database, connection: Connection) -> None:
    step = await begun(db)
    made = await made_for(db, [new_id()])

    assert await replays.cancel(db, step.id)
    assert not await replays.cancel(db, step.id)

    assert await write(db, step, made) is None
    assert await connection.fetchval("SELECT count(*) FROM runs") == 0
    assert (await replays.take(db, lease_s=1), await replays.next_due_s(db)) == (None, None)


async def test_a_replay_that_has_ended_is_taken_by_nobody(db: Database) -> None:
    step = await begun(db)

    assert await write(db, step, await made_for(db, [new_id()]), has_ended=True) == 1

    now = await replays.get(db, str(step.id))
    assert (now.state, now.progress, now.finished_at is None) == ("completed", 1.0, False)
    assert await replays.take(db, lease_s=1) is None


def test_rejected_events_are_chosen_by_name_only() -> None:
    assert as_filter(ChosenEvents(q="a")) == EventFilter(q="a", verdicts=(Verdict.ACCEPTED, Verdict.FILTERED))
    assert as_filter(ChosenEvents(verdict=Verdict.REJECTED)) == EventFilter(verdict=Verdict.REJECTED)
    schedule_id = uuid.uuid4()
    assert as_filter(ChosenEvents(schedule_id=str(schedule_id))).schedule_id == schedule_id
