"""`/api/v1/dags/{dag_id}/dagRuns`: trigger, list, read, mark, annotate, clear and delete runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath

from gateway.airflow.runs import as_made, ranges, run_order, set_state
from gateway.airflow.standings import standings
from gateway.airflow.triggers import of_wrong_params
from gateway.airflow.words import NOTE_LIMIT, OUR_STATES, DagRunState, NewState
from gateway.core import Core
from gateway.dialects.airflow_v1 import errors, triggers, wire
from gateway.dialects.airflow_v1.forms import Form
from gateway.dialects.airflow_v1.keys import may
from gateway.dialects.airflow_v1.queries import LARGEST_LIMIT, Query, bounds
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.errors import Conflict, Invalid, NotFound
from schemas.pages import Counted, Span
from schemas.pipelines import Pipeline
from schemas.runs import NamedRun, RunFilter, RunOrder
from schemas.states import OnPaused, Role

ALL = "~"
RANGES = {"execution_date": "dated", "start_date": "started", "end_date": "finished", "updated_at": "changed"}
LARGEST_BATCH = 1000
_RUNS = "/api/v1/dags/{dag_id:str}/dagRuns"
_RUN = f"{_RUNS}/{{run_id:str}}"
_ORDERS: Mapping[str, RunOrder] = {
    "id": RunOrder.CREATED,
    "state": RunOrder.STATE,
    "dag_id": RunOrder.PIPELINE,
    "execution_date": RunOrder.DATE,
    "dag_run_id": RunOrder.KEY,
    "start_date": RunOrder.STARTED,
    "end_date": RunOrder.FINISHED,
    "updated_at": RunOrder.CHANGED,
}


@post(_RUNS, guards=[may(Role.OPERATOR)], status_code=200)
async def post_dag_run(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRun:
    """Queue a run; one of a paused pipeline waits until that is unpaused."""
    Query(request)
    form = await Form.read(request, core.settings.body_limit, triggers.NAMES, read_only=triggers.READ_ONLY)
    trigger = triggers.read_trigger(form)
    pipeline = await _find_ready(core, dag_id)
    try:
        if trigger.logical_date is None:
            run = await core.runs.trigger_now(
                dag_id, trigger, on_paused=OnPaused.QUEUE, once_per_date=True, is_dated=True
            )
        else:
            run = await core.runs.trigger(dag_id, trigger, on_paused=OnPaused.QUEUE, once_per_date=True)
    except Invalid as error:
        raise of_wrong_params(trigger.variables, pipeline) or error from None
    except Conflict as error:
        raise await triggers.of_conflict(core, error, pipeline, trigger) from None
    return wire.show_run(as_made(await core.runs.name(run)))


@get(_RUNS, guards=[may(Role.VIEWER)])
async def list_dag_runs(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRuns:
    """List the runs of a pipeline, or of all for `~`, the oldest first unless `order_by` says otherwise."""
    asked = Query(request, ("limit", "offset", "state", "order_by", "fields", *bounds(*RANGES)))
    which = RunFilter(pipeline_id=None if dag_id == ALL else dag_id, **ranges(asked.moment, RANGES))
    found = await _list(core, asked.span(), which, asked.texts("state"), asked.texts("order_by"))
    shown = [wire.pick(wire.show_run(run), asked.listed("fields")) for run in found.items]
    return wire.DagRuns(shown, found.total)


@post(f"{_RUNS}/list", guards=[may(Role.VIEWER)], status_code=200)
async def list_dag_runs_batch(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.DagRuns:
    """List runs of several pipelines; the filters are in the body."""
    Query(request)
    names = ("order_by", "page_offset", "page_limit", "dag_ids", "states", *bounds(*RANGES))
    form = await Form.read(request, core.settings.body_limit, names)
    offset, limit = form.number("page_offset", default=0), form.number("page_limit", default=LARGEST_LIMIT, least=1)
    span = Span.within(offset, limit, default=limit, largest=LARGEST_BATCH)
    dag_ids = tuple(form.texts("dag_ids")) if dag_id == ALL else (dag_id,)
    which = RunFilter(pipeline_ids=dag_ids, **ranges(form.moment, RANGES))
    order = form.text("order_by")
    found = await _list(core, span, which, form.texts("states"), [order] if order else [])
    return wire.DagRuns([wire.show_run(run) for run in found.items], found.total)


@get(_RUN, guards=[may(Role.VIEWER)])
async def get_dag_run(dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore) -> Any:
    """Read a run by its dag_run_id, which may also be our id or number."""
    fields = Query(request, ("fields",)).listed("fields")
    try:
        named = await core.runs.named(dag_id, run_id)
    except NotFound:
        raise errors.run_not_found(dag_id, run_id) from None
    return wire.pick(wire.show_run(named), fields)


@delete(_RUN, guards=[may(Role.EDITOR)], status_code=204)
async def delete_dag_run(dag_id: FromPath[str], run_id: FromPath[str], core: TheCore, caller: TheCaller) -> None:
    """Delete a run with its logs and outputs, unless it executes."""
    try:
        named = await core.runs.named(dag_id, run_id)
    except NotFound:
        raise errors.run_not_found(dag_id, run_id, title="Not Found") from None
    try:
        await core.control.delete(named.name, caller)
    except Conflict:
        what = f"DAGRun with DAG ID: '{dag_id}' and DagRun ID: '{run_id}' executes: mark it failed first"
        raise Refused(what, status=409) from None


@patch(_RUN, guards=[may(Role.OPERATOR)])
async def update_dag_run_state(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.DagRun:
    """Say what became of a run, or begin it anew (`queued`)."""
    form = await _read(request, core, "state")
    state = form.choice("state", (NewState.SUCCESS, NewState.FAILED, NewState.QUEUED))
    named = await find_run(core, dag_id, run_id)
    await set_state(core, named, state, caller)
    return wire.show_run(as_made(await find_run(core, dag_id, run_id), before=named.run.id))


@patch(f"{_RUN}/setNote", guards=[may(Role.OPERATOR)])
async def set_dag_run_note(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.DagRun:
    """Write a note on a run, or none (an empty one)."""
    form = await _read(request, core, "note")
    if not form.has("note"):
        raise errors.invalid("'note' is a required property")
    note = form.text("note", most=NOTE_LIMIT) or None
    named = await find_run(core, dag_id, run_id)
    await core.control.annotate(named.run.id, note, caller)
    return wire.show_run(msgspec.structs.replace(named, run=msgspec.structs.replace(named.run, note=note)))


@post(f"{_RUN}/clear", guards=[may(Role.OPERATOR)], status_code=200)
async def clear_dag_run(
    dag_id: FromPath[str], run_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> wire.DagRun | wire.References:
    """Begin a run anew under its dag_run_id, or, unless `dry_run` is false, say which blocks would be."""
    is_dry = (await _read(request, core, "dry_run")).flag("dry_run", default=True)
    named = await find_run(core, dag_id, run_id)
    if is_dry:
        return wire.References([wire.refer(named, standing) for standing in standings(named.run, {})])
    run = await core.control.requeue(named.run, caller, is_whole=True, note=None)
    return wire.show_run(as_made(await core.runs.name(run), before=named.run.id))


async def find_run(core: Core, dag_id: str, run_id: str) -> NamedRun:
    """Read a run that is to be changed; raises Refused as Airflow does."""
    try:
        return await core.runs.named(dag_id, run_id)
    except NotFound:
        raise errors.run_missing(dag_id, run_id) from None


async def _read(request: AnyRequest, core: Core, name: str) -> Form:
    Query(request)
    return await Form.read(request, core.settings.body_limit, (name,))


async def _find_ready(core: Core, dag_id: str) -> Pipeline:
    try:
        pipeline = await core.catalog.get_pipeline(dag_id)
    except NotFound:
        raise errors.titled("DAG not found", f"DAG with dag_id: '{dag_id}' not found", status=404) from None
    if pipeline.graph is None:
        raise errors.titled("DAG cannot be triggered", f"DAG with dag_id: '{dag_id}' has import errors")
    return pipeline


async def _list(
    core: Core, span: Span, which: RunFilter, states: Sequence[str], order_by: Sequence[str]
) -> Counted[NamedRun]:
    """List runs in any of these states; of words that are no state there are none."""
    order = run_order(order_by, _ORDERS)
    ours = tuple(state for word in states if word in set(DagRunState) for state in OUR_STATES[DagRunState(word)])
    if states and not ours:
        return Counted([], 0)
    return await core.runs.list_named(span, msgspec.structs.replace(which, states=ours), order)


handlers = (
    post_dag_run,
    list_dag_runs,
    list_dag_runs_batch,
    get_dag_run,
    delete_dag_run,
    update_dag_run_state,
    set_dag_run_note,
    clear_dag_run,
)
