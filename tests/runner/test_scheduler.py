"""What becomes of a clock that is due: which slots get a run, and where it stands afterwards."""

import datetime as dt
import itertools
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.scheduler import plan
from schemas.errors import Invalid
from schemas.firing import DueClock, Firing
from schemas.states import Overlap
from schemas.timetables import jittered

SCHEDULE = uuid.UUID(int=7)
START = dt.datetime(2026, 3, 29, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def a_clock(**changes: Any) -> DueClock:
    fields: dict[str, Any] = {
        "schedule_id": SCHEDULE,
        "next_slot": START,
        "pipeline_id": "quick",
        "cron": "* * * * *",
        "every_s": None,
        "timezone": "Europe/Paris",
        "start_at": None,
        "end_at": None,
        "catchup": True,
        "jitter_s": 0,
        "overlap": Overlap.ALLOW,
        "now": START,
    }
    return DueClock(**fields | changes)


def after(firing: Firing, clock: DueClock, now: dt.datetime) -> DueClock:
    assert firing.next is not None
    return msgspec.structs.replace(clock, next_slot=firing.next.slot, now=max(now, firing.next.due_at))


def test_what_was_missed_is_caught_up_in_batches_and_the_next_batch_is_due_at_once() -> None:
    clock = a_clock(now=START + 10 * MINUTE)
    firing = plan(clock, is_busy=False, limit=4)

    assert firing.slots == tuple(START + number * MINUTE for number in range(4))
    assert firing.next is not None
    assert firing.next.due_at == firing.next.slot == START + 4 * MINUTE


def test_without_catchup_only_the_newest_missed_slot_fires() -> None:
    firing = plan(a_clock(now=START + 10.5 * MINUTE, catchup=False), is_busy=False, limit=4)

    assert (firing.slots, firing.skipped) == ((START + 10 * MINUTE,), 0)
    assert firing.next is not None
    assert firing.next.slot == START + 11 * MINUTE


def test_a_busy_schedule_that_must_not_overlap_skips_and_counts() -> None:
    clock = a_clock(now=START + 2 * MINUTE, overlap=Overlap.SKIP)

    busy = plan(clock, is_busy=True, limit=10)
    assert (busy.slots, busy.skipped) == ((), 3)
    free = plan(clock, is_busy=False, limit=10)
    assert (free.slots, free.skipped) == ((START,), 2)
    assert busy.next == free.next


def test_after_its_end_a_clock_has_no_next_slot() -> None:
    firing = plan(a_clock(now=START + 9 * MINUTE, end_at=START + 2 * MINUTE), is_busy=False, limit=10)

    assert firing.slots == (START, START + MINUTE, START + 2 * MINUTE)
    assert firing.next is None


def test_a_clock_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Invalid):
        plan(a_clock(timezone="Mars/Base"), is_busy=False, limit=1)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(0, 200), st.integers(1, 5))
def test_whenever_it_is_looked_at_each_slot_fires_once_in_order_and_none_before_it_is_due(
    pauses_s: list[int], jitter_s: int, limit: int
) -> None:
    fired: list[dt.datetime] = []
    clock = a_clock(jitter_s=jitter_s, now=jittered(START, SCHEDULE, jitter_s))
    for pause_s in pauses_s:
        firing = plan(clock, is_busy=False, limit=limit)
        assert all(jittered(slot, SCHEDULE, jitter_s) <= clock.now for slot in firing.slots)
        fired += firing.slots
        clock = after(firing, clock, clock.now + dt.timedelta(seconds=pause_s))
    assert fired == [START + number * MINUTE for number in range(len(fired))]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(0, 200))
def test_without_catchup_what_fires_is_the_newest_slot_that_is_due(pauses_s: list[int], jitter_s: int) -> None:
    fired: list[dt.datetime] = []
    clock = a_clock(jitter_s=jitter_s, now=jittered(START, SCHEDULE, jitter_s), catchup=False)
    for pause_s in pauses_s:
        firing = plan(clock, is_busy=False, limit=1)
        assert firing.next is not None
        assert jittered(firing.slots[0], SCHEDULE, jitter_s) <= clock.now < firing.next.due_at
        fired += firing.slots
        clock = after(firing, clock, clock.now + dt.timedelta(seconds=pause_s))
    assert all(earlier < later for earlier, later in itertools.pairwise(fired))
