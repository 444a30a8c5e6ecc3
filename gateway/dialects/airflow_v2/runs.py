"""`/api/v2/dags/{dag_id}/dagRuns`: trigger, list, read, patch, clear, delete and wait for runs."""

import datetime as dt
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from gateway.airflow.log_pages import to_cursor
from gateway.airflow.pipelines import blocks_of
from gateway.airflow.runs import as_made, ranges, run_order, set_state
from gateway.airflow.triggers import of_wrong_params
from gateway.airflow.words import NOT_SUCCEEDED, NOTE_LIMIT, RUN_STATES, NewState
from gateway.core import Core
from gateway.dialects.airflow_v2 import errors, queries, triggers, wire
from gateway.dialects.airflow_v2.catalog import find_dag
from gateway.dialects.airflow_v2.fields import Fields
from gateway.dialects.airflow_v2.keys import may
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.errors import Conflict, Invalid, NotFound
from schemas.pages import Span
from schemas.runs import NamedRun, Run, RunFilter
from schemas.states import OnPaused, Role

ALL = "~"
LONGEST_INTERVAL_S = 60.0
_RUN = "/api/v2/dags/{dag_id:str}/dagRuns/{run_id:str}"


class _Untyped(Stream):
    """A stream without a content type: Airflow's clients refuse one that they do not know."""

    def to_asgi_response(self, *args: object, **kwargs: object) -> ASGIResponse:
        response = super().to_asgi_response(*args, **kwargs)  # type: ignore[arg-type]
        del response.headers["content-type"]
        return response


@post("/api/v2/dags/{dag_id:str}/dagRuns", guards=[may(Role.OPERATOR)], status_code=200)
async def trigger_dag_run(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRun:
    """Queue a run; one of a paused pipeline waits until that is unpaused."""
    now = dt.datetime.fromtimestamp(core.registry.now_s(), dt.UTC)
    trigger, moment = triggers.read_trigger(await Fields.read(request, core.settings.body_limit), now=now)
    try:
        pipeline = await core.catalog.get_pipeline(dag_id)
    except NotFound:
        raise Refused(f"Dag with dag_id: '{dag_id}' not found", status=404) from None
    how: Any = {"on_paused": OnPaused.QUEUE, "once_per_date": True}
    try:
        if trigger.run_key:
            run = await core.runs.trigger(dag_id, trigger, **how)
        elif moment:
            run = await core.runs.trigger_at(moment, dag_id, trigger, **how)
        else:
            run = await core.runs.trigger_now(dag_id, trigger, **how)
    except Invalid as error:
        raise of_wrong_params(trigger.variables, pipeline) or error from None
    except Conflict as error:
        raise triggers.of_conflict(error, pipeline, trigger) from None
    return wire.show_run(as_made(await core.runs.name(run)))


@get("/api/v2/dags/{dag_id:str}/dagRuns", guards=[may(Role.VIEWER)])
async def list_dag_runs(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRuns:
    """List the runs of a pipeline, or of all for `~`, the oldest first unless `order_by` says otherwise."""
    asked = Parameters(request)
    which, order = queries.run_filter(asked), run_order(asked.texts("order_by"), queries.ORDERS)
    if dag_id != ALL:
        which = msgspec.structs.replace(which, pipeline_id=await _expect_dag(core, dag_id))
    span, cursor = queries.span(asked), request.query_params.get("cursor")
    if cursor is not None:
        span = Span.within(errors.from_cursor(cursor), span.limit, default=span.limit, largest=span.limit)
    found = await core.runs.list_named(span, which, order)
    end = span.offset + span.limit
    return wire.DagRuns(
        dag_runs=[wire.show_run(run) for run in found.items],
        total_entries=found.total,
        next_cursor=to_cursor(end) if cursor is not None and end < found.total else None,
        previous_cursor=to_cursor(max(0, span.offset - span.limit)) if cursor and span.offset else None,
    )


@post("/api/v2/dags/{dag_id:str}/dagRuns/list", guards=[may(Role.VIEWER)], status_code=200)
async def list_dag_runs_batch(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRuns:
    """List runs of several pipelines; the filters are in the body."""
    given = await Fields.read(request, core.settings.body_limit)
    dag_ids, states, order_by = tuple(given.texts("dag_ids")), given.texts("states"), given.text("order_by")
    offset, limit = given.number("page_offset", default=0), given.number("page_limit", default=100)
    bounds = ranges(given.moment, queries.RANGES)
    unserved = [name for name in queries.NOT_SERVED if given.has(name) and given.text(name) is not None]
    given.refuse_wrong()
    if unserved:
        raise errors.not_served(f"The filter {unserved[0]}")
    if dag_id != ALL:
        dag_ids = (dag_id,)
    which = RunFilter(pipeline_ids=dag_ids, states=queries.run_states(states), **bounds)
    span = Span.within(offset, limit, default=limit, largest=queries.LARGEST_LIMIT)
    found = await core.runs.list_named(span, which, run_order([order_by] if order_by else [], queries.ORDERS))
    return wire.DagRuns(dag_runs=[wire.show_run(run) for run in found.items], total_entries=found.total)


@get(_RUN, guards=[may(Role.VIEWER)])
async def get_dag_run(dag_id: FromPath[str], run_id: FromPath[str], core: TheCore) -> wire.DagRun:
    """Read a run by its dag_run_id, which may also be our id or number."""
    return wire.show_run(await find_run(core, dag_id, run_id))


@delete(_RUN, guards=[may(Role.EDITOR)], status_code=204)
async def delete_dag_run(dag_id: FromPath[str], run_id: FromPath[str], core: TheCore, caller: TheCaller) -> None:
    """Delete a run with its logs and outputs, unless it executes."""
    named = await find_run(core, dag_id, run_id)
    try:
        await core.control.delete(named.name, caller)
    except Conflict:
        what = f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` cannot be deleted in running state"
        raise Refused(what, status=409) from None


@patch(_RUN, guards=[may(Role.OPERATOR)])
async def patch_dag_run(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.DagRun:
    """Say what became of a run, begin it anew (`queued`), or write a note."""
    given = await Fields.read(request, core.settings.body_limit)
    state, note = given.choice("state", NewState), given.text("note", most=NOTE_LIMIT)
    given.refuse_wrong()
    mask = Parameters(request).texts("update_mask")
    named = await find_run(core, dag_id, run_id)
    first = named.run.id
    if state is not None and (not mask or "state" in mask):
        await set_state(core, named, state, caller)
        named = await find_run(core, dag_id, run_id)
    if given.has("note") and (not mask or "note" in mask):
        await core.control.annotate(named.run.id, note, caller)
        named = await find_run(core, dag_id, run_id)
    return wire.show_run(as_made(named, before=first))


@post(f"{_RUN}/clear", guards=[may(Role.OPERATOR)], status_code=200)
async def clear_dag_run(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.DagRun | wire.TaskInstances:
    """Begin a run anew under its dag_run_id, or, unless `dry_run` is false, say which blocks would be."""
    given = await Fields.read(request, core.settings.body_limit)
    dry_run, only_failed = given.flag("dry_run", default=True), given.flag("only_failed")
    only_new, _ = given.flag("only_new"), given.flag("run_on_latest_version")
    note = given.text("note", most=NOTE_LIMIT)
    given.refuse_wrong()
    if only_new:
        raise errors.not_served("The option only_new")
    named = await find_run(core, dag_id, run_id)
    if dry_run:
        tasks = wire.show_tasks(named, blocks_of(await find_dag(core, dag_id)))
        cleared = [task for task in tasks if not only_failed or task.state in NOT_SUCCEEDED]
        return wire.TaskInstances(cleared, len(cleared))
    run = await core.control.requeue(named.run, caller, is_whole=not only_failed, note=note)
    return wire.show_run(as_made(await core.runs.name(run), before=named.run.id))


@get(f"{_RUN}/wait", guards=[may(Role.VIEWER)])
async def wait_for_dag_run(dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Send the state of a run in a line, whenever it changes and at least each `interval`, until it has ended."""
    interval = _interval(Parameters(request).text("interval"))
    named = await find_run(core, dag_id, run_id)
    return _Untyped(_lines(core, named.run, interval))


async def find_run(core: Core, dag_id: str, run_id: str) -> NamedRun:
    """Read a run; raises Refused as Airflow does."""
    try:
        return await core.runs.named(dag_id, run_id)
    except NotFound:
        raise errors.run_not_found(dag_id, run_id) from None


async def _expect_dag(core: Core, dag_id: str) -> str:
    try:
        return (await core.catalog.get_pipeline(dag_id)).id
    except NotFound:
        raise Refused(f"The Dag with dag_id: `{dag_id}` was not found", status=404) from None


async def _lines(core: Core, run: Run, interval: float) -> AsyncGenerator[bytes]:
    async for state in core.feed.states(run.id, again_s=interval):
        yield msgspec.json.encode({"state": RUN_STATES[state]}) + b"\n"


def _interval(text: str | None) -> float:
    place = ("query", "interval")
    if text is None:
        raise errors.unprocessable(errors.fault("missing", place, "Field required", None))
    try:
        seconds = float(text)
    except ValueError:
        message = "Input should be a valid number, unable to parse string as a number"
        raise errors.unprocessable(errors.fault("float_parsing", place, message, text)) from None
    if not seconds > 0:
        message = "Input should be greater than 0"
        raise errors.unprocessable(errors.fault("greater_than", place, message, text, ctx={"gt": 0}))
    return min(seconds, LONGEST_INTERVAL_S)


handlers = (
    trigger_dag_run,
    list_dag_runs,
    list_dag_runs_batch,
    get_dag_run,
    delete_dag_run,
    patch_dag_run,
    clear_dag_run,
    wait_for_dag_run,
)
