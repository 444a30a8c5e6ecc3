"""Limits, lanes and queues in the database against a model, in every order of steps that Hypothesis can think of."""

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from schemas.errors import PenstockError
from schemas.pipelines import Block, Definition, Graph
from schemas.schedules import NewSchedule
from schemas.store import leases, pipelines, schedules
from schemas.store.db import Database
from tests.schemas.history_of_limits import FREE, LIMIT, LIMITED, QUEUES, Lane, Limits

FOUND = (AssertionError, PenstockError, asyncpg.PostgresError)


def play(database_url: str, *, examples: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> None:
    """Play so many histories of 15 steps, always the same ones."""
    with asyncio.Runner() as loop:
        database = Database(database_url, size=2, name="model")
        loop.run(database.open())
        try:
            bound = type("Played", (Limits,), {"database": database, "loop": loop} | loop.run(prepare(database)))
            run_state_machine_as_test(
                bound,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=15,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                    print_blob=False,
                ),
            )
        finally:
            loop.run(database.close())


async def prepare(database: Database) -> dict[str, Any]:
    graph = Graph((Block(id="a"),))
    definitions = [
        Definition(id=LIMITED, path="model.py", version="v1", graph=graph, max_active_runs=LIMIT),
        Definition(id=FREE, path="model.py", version="v1", graph=graph),
    ]
    await pipelines.publish(database, definitions)
    narrow = await schedules.create(database, NewSchedule(pipeline_id=LIMITED, name="narrow", max_active_runs=2))
    wide = await schedules.create(database, NewSchedule(pipeline_id=LIMITED, name="wide"))
    backfill = uuid.uuid4()
    columns = "id, pipeline_id, schedule_id, key, start_at, end_at, every, timezone, max_active_runs, total"
    await database.execute(
        f"INSERT INTO backfills ({columns}) VALUES ($1, $2, $3, 'k', now(), now(), 'day', 'UTC', 1, 9)",
        backfill,
        LIMITED,
        narrow.id,
    )
    runners = {name: uuid.uuid4() for name in QUEUES}
    for name, runner in runners.items():
        await leases.register(database, runner, name=name, lease_s=1e6, queues=QUEUES[name])
    lanes = [
        Lane(LIMITED, narrow.id),
        Lane(LIMITED, wide.id),
        Lane(LIMITED),
        Lane(LIMITED, narrow.id, backfill),
        Lane(FREE),
    ]
    return {"lanes": lanes, "limits": {LIMITED: LIMIT, narrow.id: 2, backfill: 1}, "runners": runners}


@pytest.mark.timeout(300)
def test_in_every_history_limits_are_kept_and_nobody_is_forgotten(database_url: str) -> None:
    play(database_url, examples=50)


@pytest.mark.parametrize(
    ("query", "rule", "without"),
    [
        ("next", "WHERE room IS NULL OR nth <= room", ""),
        (
            "next",
            "least(a.most, a.room, room_of_schedule, room_of_backfill)",
            "least(a.most, a.room, room_of_schedule)",
        ),
        ("next", "WHERE room_of_schedule IS NULL OR nth_of_schedule <= room_of_schedule", ""),
        ("next", "WHERE state = 'queued' AND started_at IS NOT NULL AND", "WHERE false AND"),
        (
            "next",
            "UNION ALL\n          SELECT id, dispatch, lane, queue, pipeline_id, nth FROM fresh",
            "UNION ALL\n          SELECT id, dispatch, lane, queue, pipeline_id, -1 FROM fresh",
        ),
        (
            "next",
            "row_number() OVER (PARTITION BY l.pipeline_id, l.lane ORDER BY r.id)",
            "row_number() OVER (PARTITION BY l.pipeline_id, l.lane ORDER BY r.id DESC)",
        ),
        ("claim", "AND r.queue = ANY ($7::text[])", "AND $7::text[] IS NOT NULL"),
        ("limited", "p.max_active_runs IS NOT NULL OR ", ""),
        ("hand_over", "AND epoch = $2", "AND $2::bigint > 0"),
        ("hand_over", "epoch = epoch + 1, dispatch", "dispatch"),
        ("hand_over", "queue = $3, ", "queue = coalesce(queue, $3), "),
    ],
)
def test_the_model_finds_a_rule_that_was_taken_out(
    query: str, rule: str, without: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test: without one of these words of SQL the histories must go wrong."""
    assert leases.SQL[query].count(rule) == 1
    monkeypatch.setitem(leases.SQL, query, leases.SQL[query].replace(rule, without))

    with pytest.raises(FOUND):
        play(database_url, examples=200, phases=(Phase.generate,))
