"""The states of runs in the database against a model, in every order of steps that Hypothesis can think of."""

import asyncio

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from schemas.errors import PenstockError
from schemas.pipelines import Block, Definition, Graph
from schemas.schedules import NewSchedule
from schemas.store import control, events, leases, ledger, pipelines, runs, schedules
from schemas.store.db import Database
from tests.schemas.history_of_runs import PIPELINE, History
from tests.schemas.overruled_runs import Overruled

FOUND = (AssertionError, PenstockError, asyncpg.PostgresError)


def play(
    history: type[History],
    database_url: str,
    *,
    examples: int,
    phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink),
) -> None:
    """Play so many histories of 30 steps, always the same ones."""
    with asyncio.Runner() as loop:
        database = Database(database_url, size=2, name="model")
        loop.run(database.open())
        try:
            schedule = loop.run(prepare(database))
            bound = type("Played", (history,), {"database": database, "loop": loop, "schedule_id": schedule})
            run_state_machine_as_test(
                bound,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=30,
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


async def prepare(database: Database) -> object:
    graph = Graph((Block(id="a"), Block(id="b"), Block(id="c")))
    await pipelines.publish(database, [Definition(id=PIPELINE, path="model.py", version="v1", graph=graph)])
    return (await schedules.create(database, NewSchedule(pipeline_id=PIPELINE, name="model"))).id


@pytest.mark.timeout(300)
def test_in_every_history_the_database_and_the_model_agree(database_url: str) -> None:
    play(Overruled, database_url, examples=100)


@pytest.mark.parametrize(
    ("table", "query", "rule", "without"),
    [
        (ledger, "record", "AND i.epoch = r.epoch", ""),
        (ledger, "record", "WHERE r.state = 'running' AND r.seq < i.seq", "WHERE r.seq < i.seq"),
        (leases, "reclaim", "epoch = r.epoch + 1, dispatch", "dispatch"),
        (leases, "reclaim", "dispatch = r.dispatch + 1,", ""),
        (leases, "claim", "AND r.dispatch = rung.dispatch", ""),
        (runs, "cancel", "AND state IN ('queued', 'running')", ""),
        (events, "ingest", "WHERE input.dedupe_key IS NULL OR won.event_id = input.event_id", ""),
    ],
)
def test_the_model_finds_a_rule_that_was_taken_out(
    table: object, query: str, rule: str, without: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test: without one of these words of SQL the histories must go wrong."""
    take_out(table, query, rule, without, monkeypatch)

    with pytest.raises(FOUND):
        play(History, database_url, examples=300, phases=(Phase.generate,))


@pytest.mark.parametrize(
    ("query", "rule", "without"),
    [
        ("resume", "AND (r.state IN ('failed', 'cancelled') OR r.state = 'success' AND $4::text IS NOT NULL)", ""),
        ("resume", "WHERE b.state IN ('success', 'skipped') AND", "WHERE"),
        ("resume", "1 + (SELECT count(*) FROM done)", "1"),
        ("rerun", "AND o.state IN ('success', 'failed', 'cancelled')", ""),
        ("mark", "epoch = r.epoch + 1,", ""),
        ("mark", "marked_at = clock_timestamp(),", ""),
        ("mark", "AND state IN ('pending', 'running')", "AND state = 'pending'"),
        ("mark", "AND r.state <> $2", ""),
    ],
)
def test_the_model_finds_a_rule_for_people_that_was_taken_out(
    query: str, rule: str, without: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(control, query, rule, without, monkeypatch)

    with pytest.raises(FOUND):
        play(Overruled, database_url, examples=100, phases=(Phase.generate,))


def take_out(table: object, query: str, rule: str, without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = table.SQL
    assert queries[query].count(rule) == 1
    monkeypatch.setitem(queries, query, queries[query].replace(rule, without))
