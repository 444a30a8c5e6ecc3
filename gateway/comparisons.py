"""What an event became, beside what a replay would make of it. Pure functions, no I/O."""

import uuid
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway import differences
from gateway.rejudging import Outcome
from schemas import payload
from schemas.errors import PenstockError
from schemas.events import Event
from schemas.payload import Kind
from schemas.replays import ComparedRun, Comparison, Judged, OldRun, ReplayedRun, ReplayMode, ShownRun

MOST_RUNS = 20
MOST_DIFFERENCES = 100


def compare(outcome: Outcome) -> Comparison:
    """Put the runs of an event beside those that it would become, item by item."""
    old = {run.item: run for run in outcome.old_runs}
    new = {run.item: run for run in outcome.runs}
    items = sorted(old.keys() | new.keys())
    return Comparison(
        event_id=outcome.event.id,
        mode=outcome.mode,
        schedule_id=outcome.gate.schedule_id,
        was=_was(outcome.event),
        verdict=outcome.verdict,
        reason_code=outcome.reason_code,
        reason=outcome.reason,
        run_count=len(new),
        runs=[_compare_run(item, old.get(item), new.get(item), outcome) for item in islice(items, MOST_RUNS)],
    )


def not_replayable(
    event: Event, error: PenstockError, *, mode: ReplayMode | None, schedule_id: uuid.UUID
) -> Comparison:
    """Say why an event cannot be replayed like this."""
    return Comparison(
        event_id=event.id,
        mode=mode,
        schedule_id=schedule_id,
        was=_was(event),
        verdict=None,
        reason_code=error.code,
        reason=error.message,
        run_count=0,
        runs=(),
    )


def _was(event: Event) -> Judged:
    return Judged(verdict=event.verdict, reason_code=event.reason_code, reason=event.reason)


def _compare_run(item: int, old: OldRun | None, new: ReplayedRun | None, outcome: Outcome) -> ComparedRun:
    then = None if old is None else _then(old)
    now = None if new is None else _now(new, outcome.gate.pipeline_id)
    found = [] if then is None or now is None else differences.find(_values(then), _values(now), most=MOST_DIFFERENCES)
    return ComparedRun(item=item, then=then, now=now, differences=found)


def _then(run: OldRun) -> ShownRun:
    return ShownRun(
        run_id=run.id,
        number=run.number,
        pipeline_id=run.pipeline_id,
        variables=run.variables,
        event_variables=_item(run.event_item),
    )


def _now(run: ReplayedRun, pipeline_id: str) -> ShownRun:
    return ShownRun(pipeline_id=pipeline_id, variables=run.variables, event_variables=_item(run.event_item))


def _item(event_item: bytes | None) -> msgspec.Raw | UnsetType:
    return UNSET if event_item is None else msgspec.Raw(event_item)


def _values(run: ShownRun) -> Mapping[str, Any]:
    values: dict[str, Any] = {"pipeline_id": run.pipeline_id, "variables": _read(run.variables)}
    if run.event_variables is not UNSET:
        values["event_variables"] = _read(run.event_variables)
    return values


def _read(value: msgspec.Raw) -> Any:
    return payload.decode(Kind.JSON, bytes(value), content_type="", url="")
