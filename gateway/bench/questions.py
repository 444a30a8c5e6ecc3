"""What people ask of a large installation, as the store answers it; the plans of these queries are looked at."""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from gateway.delivery_ids import spellings
from schemas.events import EventFilter
from schemas.ids import LARGEST_ID, SMALLEST_ID
from schemas.runs import RunFilter
from schemas.states import Origin, RunState, Verdict
from schemas.store import events, lineage, overviews, replays, runs, search, tallies
from schemas.store.db import Db

LIMIT = 51
Ask: TypeAlias = Callable[[Db], Awaitable[Any]]


def questions(
    *, run_id: uuid.UUID, schedule_id: uuid.UUID, event_id: uuid.UUID, parent_id: uuid.UUID, replay_id: uuid.UUID
) -> dict[str, Ask]:
    """Name the questions about a history; the ids are those of some old run, its event, and others that have runs."""
    now = dt.datetime.now(dt.UTC)
    first, end = now - dt.timedelta(days=3), now - dt.timedelta(days=2)
    of_runs = {
        "newest": RunFilter(),
        "pipeline": RunFilter(pipeline_id="history_3"),
        "schedule": RunFilter(schedule_id=schedule_id),
        "event": RunFilter(event_id=event_id),
        "parent": RunFilter(parent_id=parent_id),
        "backfill": RunFilter(backfill_id=event_id),
        "replay": RunFilter(replay_id=replay_id),
        **{state.value: RunFilter(state=state) for state in RunState},
        "cancelled of a pipeline": RunFilter(state=RunState.CANCELLED, pipeline_id="history_3"),
        "triggered by runs": RunFilter(origin=Origin.RUN),
        "one day": RunFilter(created_after=first, created_before=end),
        "a text": RunFilter(q="customer-1"),
        "a text that is nowhere": RunFilter(q="nowhere to be found"),
    }
    return {
        **{f"runs, {name}": _runs(which) for name, which in of_runs.items()},
        "runs, an old page": lambda db: _page(db, RunFilter(), before=run_id),
        **_about_events(schedule_id, EventFilter(created_after=first, created_before=end)),
        **_about_one_event(event_id),
        "ancestors": lambda db: lineage.ancestors(db, run_id, limit=200),
        "children": lambda db: lineage.children(db, [parent_id], limit=200),
        **_overviews(now),
    }


def _about_events(schedule_id: uuid.UUID, one_day: EventFilter) -> dict[str, Ask]:
    asked = {
        "newest": EventFilter(),
        "schedule": EventFilter(schedule_id=schedule_id),
        "rejected": EventFilter(verdict=Verdict.REJECTED),
        "reason": EventFilter(reason_code="bad_signature"),
        "duplicates": EventFilter(verdict=Verdict.DUPLICATE),
        "a rare source": EventFilter(source="github"),
        "a type that is nowhere": EventFilter(event_type="nowhere"),
        "pipeline": EventFilter(pipeline_id="history_3"),
        "key": EventFilter(dedupe_key="order-2002"),
        "key of a schedule": EventFilter(dedupe_key="order-2002", schedule_id=schedule_id),
        "a text": EventFilter(q="customer-1"),
        "a text that is nowhere": EventFilter(q="nowhere to be found"),
        "one day": one_day,
    }
    return {
        **{f"events, {name}": _events(which) for name, which in asked.items()},
        **{f"replay, {name}": _replayed(which) for name, which in asked.items()},
        "replay, next step": lambda db: replays.take(db, lease_s=1),
    }


def _about_one_event(event_id: uuid.UUID) -> dict[str, Ask]:
    return {
        "event, its runs": lambda db: events.runs_of(db, event_id, limit=1001),
        "event, runs to repeat": lambda db: replays.old_runs(db, event_id),
        "event, its duplicates": lambda db: events.duplicates(db, event_id),
        "event, its body": lambda db: events.body(db, event_id),
    }


def _overviews(now: dt.datetime) -> dict[str, Ask]:
    hour = now.replace(minute=0, second=0, microsecond=0)
    first = now.date() - dt.timedelta(days=89)
    return {
        "calendar": lambda db: tallies.days(db, first, pipeline_id=None),
        "calendar of a pipeline": lambda db: tallies.days(db, first, pipeline_id="history_3"),
        "success rate": lambda db: tallies.hours(db, hour - dt.timedelta(hours=23)),
        "top failing": lambda db: tallies.failing(db, hour - dt.timedelta(days=7), limit=5),
        "queue": overviews.queue,
        "last failures": lambda db: overviews.last_failures(db, limit=10),
        "rejected": lambda db: overviews.count_rejected(db, now - dt.timedelta(days=1)),
        "next fires": lambda db: overviews.next_fires(db, limit=10),
        "search runs": lambda db: search.find_runs(db, "key-12", limit=30),
        "search runs by number": lambda db: search.find_runs(db, "4711", limit=30),
        "search events": lambda db: search.find_events(db, "nowhere", ["nowhere", "key:nowhere"], limit=30),
        "triggers": lambda db: lineage.triggers(db, now - dt.timedelta(days=30), limit=1000),
    }


def _runs(which: RunFilter) -> Ask:
    return lambda db: _page(db, which, before=None)


def _events(which: EventFilter) -> Ask:
    return lambda db: _page_of_events(db, which)


def _replayed(which: EventFilter) -> Ask:
    return lambda db: _look_ahead(db, which)


def _keys(which: EventFilter) -> list[str]:
    return [] if which.dedupe_key is None else spellings(which.dedupe_key)


async def _page(db: Db, which: RunFilter, *, before: uuid.UUID | None) -> None:
    found = await runs.find(db, before, which, limit=LIMIT)
    await runs.of_ids(db, found.items, largest_body=1 << 14)


async def _page_of_events(db: Db, which: EventFilter) -> None:
    found = await events.list_page(db, None, which, keys=_keys(which), limit=LIMIT)
    ids = [event.id for event in found.items]
    await events.runs_caused(db, ids, limit=21)
    await events.count_replays(db, ids)


async def _look_ahead(db: Db, which: EventFilter) -> None:
    """Ask what a replay asks: how many there are, and which come first."""
    await events.count(db, which, keys=_keys(which), end=LARGEST_ID)
    await events.find_oldest(db, which, keys=_keys(which), after=SMALLEST_ID, end=LARGEST_ID, limit=20)
