"""`/api/v2/backfills`: a run for each date of a time schedule between two moments.

Airflow remembers how a backfill treats dates that had a run; ours does not, so its key says it.
"""

import datetime as dt
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from litestar import get, post, put
from litestar.params import FromPath

from gateway.airflow.runs import backwards
from gateway.airflow.triggers import of_wrong_params
from gateway.backfills import Plan
from gateway.core import Core
from gateway.dialects.airflow_v2 import errors, queries, wire
from gateway.dialects.airflow_v2.fields import Fields
from gateway.dialects.airflow_v2.keys import may
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.backfills import Backfill, BackfillState, NewBackfill
from schemas.errors import Conflict, Invalid, NotFound
from schemas.keys import Caller
from schemas.pages import MOST_COUNTED, Span
from schemas.pipelines import Pipeline
from schemas.runs import RunFilter, RunOrder, Sorting
from schemas.states import Role, RunState

_ACTIVE = (BackfillState.RUNNING, BackfillState.PAUSED)
_NEWEST_END = (Sorting(RunOrder.FINISHED, is_descending=True),)


class Reprocess(StrEnum):
    """Which dates that had a run get another: those that failed, those that ended, none."""

    FAILED = "failed"
    COMPLETED = "completed"
    NONE = "none"


_SKIPPED: Mapping[Reprocess, frozenset[RunState]] = {
    Reprocess.NONE: frozenset(RunState),
    Reprocess.FAILED: frozenset({RunState.QUEUED, RunState.RUNNING, RunState.SUCCESS}),
    Reprocess.COMPLETED: frozenset({RunState.QUEUED, RunState.RUNNING}),
}


class Backfills(msgspec.Struct, frozen=True):
    """A part of the backfills of a pipeline."""

    backfills: list[wire.ShownBackfill]
    total_entries: int


class _Asked(msgspec.Struct, frozen=True):
    dag_id: str
    first: dt.datetime
    last: dt.datetime
    conf: dict[str, Any]
    max_active_runs: int
    behavior: Reprocess


@post("/api/v2/backfills", guards=[may(Role.OPERATOR)], status_code=200)
async def create_backfill(request: AnyRequest, core: TheCore, caller: TheCaller) -> wire.ShownBackfill:
    """Queue a run for each date; one backfill of a pipeline at a time."""
    asked = await _read(request, core)
    plan, new = await _plan(core, asked)
    active = [one for one in (await _all(core, asked.dag_id)) if one.state in _ACTIVE]
    if active:
        raise Refused(f"There is already a running backfill for dag {asked.dag_id}", status=409)
    if not plan.dates:
        raise errors.refuse_value(f"Every date of {asked.dag_id} has a run that is not to be processed again.")
    backfill, _ = await core.backfills.create(plan, new, caller)
    return await _show(core, backfill)


@post("/api/v2/backfills/dry_run", guards=[may(Role.OPERATOR)], status_code=200)
async def dry_run_backfill(request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """List the dates that a backfill would have."""
    plan, _ = await _plan(core, await _read(request, core))
    dates = [{"logical_date": date, "partition_key": None, "partition_date": None} for date in plan.dates]
    return {"backfills": dates, "total_entries": len(dates)}


@get("/api/v2/backfills", guards=[may(Role.VIEWER)])
async def list_backfills(request: AnyRequest, core: TheCore) -> Backfills:
    """List the backfills of a pipeline, the oldest first."""
    asked = Parameters(request)
    dag_id, span, is_backwards = asked.text("dag_id"), queries.span(asked), backwards(asked.texts("order_by"), "id")
    if dag_id is None:
        raise errors.unprocessable(errors.fault("missing", ("query", "dag_id"), "Field required", None))
    found = await core.backfills.list_span(span, pipeline_id=dag_id, oldest_first=not is_backwards)
    return Backfills([await _show(core, backfill) for backfill in found.items], found.total)


@get("/api/v2/backfills/{backfill_id:str}", guards=[may(Role.VIEWER)])
async def get_backfill(backfill_id: FromPath[str], core: TheCore) -> wire.ShownBackfill:
    """Read a backfill."""
    return await _show(core, await _find(core, backfill_id))


@put("/api/v2/backfills/{backfill_id:str}/pause", guards=[may(Role.OPERATOR)])
async def pause_backfill(backfill_id: FromPath[str], core: TheCore, caller: TheCaller) -> wire.ShownBackfill:
    """Let none of its runs begin until it is unpaused."""
    return await _set_paused(core, backfill_id, caller, is_paused=True)


@put("/api/v2/backfills/{backfill_id:str}/unpause", guards=[may(Role.OPERATOR)])
async def unpause_backfill(backfill_id: FromPath[str], core: TheCore, caller: TheCaller) -> wire.ShownBackfill:
    """Let its runs begin again."""
    return await _set_paused(core, backfill_id, caller, is_paused=False)


@put("/api/v2/backfills/{backfill_id:str}/cancel", guards=[may(Role.OPERATOR)])
async def cancel_backfill(backfill_id: FromPath[str], core: TheCore, caller: TheCaller) -> wire.ShownBackfill:
    """Cancel its queued runs at once, and the running ones as soon as their blocks let go."""
    backfill = await _find_active(core, backfill_id)
    try:
        return await _show(core, await core.backfills.cancel(str(backfill.id), caller))
    except Conflict:
        raise _completed() from None


async def _read(request: AnyRequest, core: Core) -> _Asked:
    given = await Fields.read(request, core.settings.body_limit)
    for name in ("dag_id", "from_date", "to_date"):
        given.require(name)
    dag_id, first, last = given.text("dag_id"), given.moment("from_date"), given.moment("to_date")
    is_backwards = given.flag("run_backwards")
    given.flag("run_on_latest_version")
    conf, limit = given.mapping("dag_run_conf"), given.number("max_active_runs", default=10, least=1)
    behavior = given.choice("reprocess_behavior", Reprocess) or Reprocess.NONE
    given.refuse_wrong()
    if is_backwards:
        raise errors.not_served("The option run_backwards")
    if dag_id is None or first is None or last is None:
        raise errors.refuse_value("dag_id, from_date and to_date cannot be null")
    return _Asked(dag_id, first, last, conf, limit, behavior)


async def _plan(core: Core, asked: _Asked) -> tuple[Plan, NewBackfill]:
    try:
        pipeline = await core.catalog.get_pipeline(asked.dag_id)
    except NotFound:
        raise Refused(f"Could not find dag {asked.dag_id}", status=404) from None
    schedule = (await core.catalog.time_schedules([pipeline.id])).get(pipeline.id)
    if schedule is None:
        raise errors.refuse_value(f"{pipeline.id} has no schedule")
    new = NewBackfill(
        start=asked.first.isoformat(),
        end=asked.last.isoformat(),
        every="schedule",
        schedule_id=str(schedule.id),
        variables=asked.conf,
        max_active_runs=asked.max_active_runs,
        key=f"{asked.behavior}:{uuid.uuid4()}",
    )
    return await _plan_of(core, pipeline, new, asked), new


async def _plan_of(core: Core, pipeline: Pipeline, new: NewBackfill, asked: _Asked) -> Plan:
    try:
        return await core.backfills.plan(pipeline.id, new, skipping=_SKIPPED[asked.behavior])
    except Invalid as error:
        wrong = of_wrong_params(asked.conf, pipeline)
        raise errors.refuse_value(wrong.message if wrong else error.message) from None


async def _all(core: Core, dag_id: str) -> list[Backfill]:
    return list((await core.backfills.list_span(Span(0, MOST_COUNTED), pipeline_id=dag_id)).items)


async def _find(core: Core, backfill_id: str) -> Backfill:
    number = queries.integer(("path", "backfill_id"), backfill_id)
    try:
        return await core.backfills.get(str(number))
    except NotFound:
        raise Refused("Backfill not found", status=404) from None


async def _find_active(core: Core, backfill_id: str) -> Backfill:
    backfill = await _find(core, backfill_id)
    if backfill.state not in _ACTIVE:
        raise _completed()
    return backfill


async def _set_paused(core: Core, backfill_id: str, caller: Caller, *, is_paused: bool) -> wire.ShownBackfill:
    backfill = await _find_active(core, backfill_id)
    try:
        return await _show(core, await core.backfills.set_paused(str(backfill.id), caller, is_paused=is_paused))
    except Conflict:
        raise _completed() from None


async def _show(core: Core, backfill: Backfill) -> wire.ShownBackfill:
    behavior = (backfill.key or "").partition(":")[0]
    finished_at = None
    if backfill.state is BackfillState.COMPLETED:
        last = await core.runs.list_span(Span(0, 1), RunFilter(backfill_id=backfill.id), order=_NEWEST_END)
        finished_at = next((run.finished_at for run in last.items), backfill.created_at)
    return wire.show_backfill(backfill, behavior if behavior in set(Reprocess) else Reprocess.COMPLETED, finished_at)


def _completed() -> Refused:
    return Refused("Backfill is already completed.", status=409)


handlers = (
    create_backfill,
    dry_run_backfill,
    list_backfills,
    get_backfill,
    pause_backfill,
    unpause_backfill,
    cancel_backfill,
)
