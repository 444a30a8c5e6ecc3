"""The database's clock as a process without a clock of its own would know it."""

import datetime as dt
import time

from schemas.clock import DatabaseClock

NOON = dt.datetime(2031, 1, 31, 12, tzinfo=dt.UTC)


def test_before_it_has_learned_it_tells_the_time_of_the_machine() -> None:
    assert abs(DatabaseClock().now() - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=1)


def test_the_databases_time_holds_however_wrong_the_machines_is() -> None:
    clock = DatabaseClock()
    now = time.monotonic()

    clock.learn(NOON, sent_at=now, received_at=now)

    assert dt.timedelta(0) <= clock.now() - NOON < dt.timedelta(seconds=1)


def test_an_answer_is_taken_to_be_from_the_middle_of_its_journey() -> None:
    clock = DatabaseClock()

    clock.learn(NOON, sent_at=100.0, received_at=104.0)

    assert clock.ahead_s == NOON.timestamp() - 102.0


def test_an_answer_that_does_not_contradict_changes_nothing() -> None:
    clock = DatabaseClock()
    clock.learn(NOON, sent_at=100.0, received_at=102.0)
    before = clock.ahead_s

    clock.learn(NOON, sent_at=100.0, received_at=104.0)

    assert clock.ahead_s == before


def test_the_newest_answer_counts() -> None:
    clock = DatabaseClock()
    clock.learn(NOON, sent_at=0.0, received_at=0.0)

    clock.learn(NOON - dt.timedelta(hours=2), sent_at=0.0, received_at=0.0)

    assert clock.ahead_s == NOON.timestamp() - 7200
