"""`/api/v1/dags` and `/api/v1/dagStats`: pipelines, their blocks, and how many runs they have."""

from typing import Any

from litestar import get, patch
from litestar.params import FromPath

from gateway.airflow.pipelines import blocks_of, count_states, show_task
from gateway.airflow.runs import backwards
from gateway.core import Core
from gateway.dialects.airflow_v1 import errors, wire
from gateway.dialects.airflow_v1.forms import Form
from gateway.dialects.airflow_v1.keys import may
from gateway.dialects.airflow_v1.queries import Query
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.errors import NotFound
from schemas.pages import MOST_COUNTED, Counted, Span
from schemas.pipelines import Pipeline, PipelineFilter, PipelinePatch
from schemas.states import Role

_FILTERS = ("limit", "offset", "tags", "only_active", "dag_id_pattern")
_READ_ONLY = tuple(name for name in wire.Dag.__struct_fields__ if name != "is_paused")


@get("/api/v1/dags", guards=[may(Role.VIEWER)])
async def list_dags(request: AnyRequest, core: TheCore) -> wire.Dags:
    """List pipelines by name; none of them has tags."""
    asked = Query(request, (*_FILTERS, "order_by", "paused", "fields"))
    is_backwards = backwards(asked.texts("order_by"), "dag_id")
    found = await _find(
        core, asked, asked.text("dag_id_pattern"), is_paused=asked.flag("paused"), backwards=is_backwards
    )
    return await _show_all(core, found, asked.listed("fields"))


@patch("/api/v1/dags", guards=[may(Role.OPERATOR)])
async def patch_dags(request: AnyRequest, core: TheCore, caller: TheCaller) -> wire.Dags:
    """Pause all pipelines whose name has a pattern (`~` is all), or let them run again."""
    asked = Query(request, (*_FILTERS, "update_mask"))
    changed = await _read_patch(request, core, asked)
    pattern = asked.text("dag_id_pattern")
    if pattern is None:
        raise Refused("Missing query parameter 'dag_id_pattern'")
    found = await _find(core, asked, None if pattern == "~" else pattern)
    dags = [await core.catalog.patch_pipeline(pipeline.id, changed, caller) for pipeline in found.items]
    return await _show_all(core, Counted(dags, found.total), [])


@get("/api/v1/dags/{dag_id:str}", guards=[may(Role.VIEWER)])
async def get_dag(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> Any:
    """Read one pipeline."""
    fields = Query(request, ("fields",)).listed("fields")
    pipeline = await find_dag(core, dag_id)
    return wire.pick(await _show(core, pipeline), fields)


@get("/api/v1/dags/{dag_id:str}/details", guards=[may(Role.VIEWER)])
async def get_dag_details(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> Any:
    """Read one pipeline with its params and its documentation."""
    fields = Query(request, ("fields",)).listed("fields")
    pipeline = await find_dag(core, dag_id)
    schedules = await core.catalog.time_schedules([dag_id])
    return wire.pick(wire.show_details(pipeline, schedules.get(dag_id)), fields)


@patch("/api/v1/dags/{dag_id:str}", guards=[may(Role.OPERATOR)])
async def patch_dag(dag_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> wire.Dag:
    """Pause a pipeline, or let it run again."""
    changed = await _read_patch(request, core, Query(request, ("update_mask",)))
    try:
        return await _show(core, await core.catalog.patch_pipeline(dag_id, changed, caller))
    except NotFound:
        raise errors.titled(f"Dag with id: '{dag_id}' not found", status=404) from None


@get("/api/v1/dags/{dag_id:str}/tasks", guards=[may(Role.VIEWER)])
async def list_tasks(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """List the blocks of a pipeline by name."""
    is_backwards = backwards(Query(request, ("order_by",)).texts("order_by"), "task_id", "task_display_name")
    pipeline = await find_dag(core, dag_id)
    blocks = blocks_of(pipeline)
    shown = [show_task(blocks[name], blocks, pipeline.queue) for name in sorted(blocks, reverse=is_backwards)]
    return {"tasks": shown, "total_entries": len(shown)}


@get("/api/v1/dags/{dag_id:str}/tasks/{task_id:str}", guards=[may(Role.VIEWER)])
async def get_task(dag_id: FromPath[str], task_id: FromPath[str], request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """Read one block of a pipeline."""
    Query(request)
    pipeline = await find_dag(core, dag_id)
    blocks = blocks_of(pipeline)
    if task_id not in blocks:
        raise errors.titled("Task not found", status=404)
    return show_task(blocks[task_id], blocks, pipeline.queue)


@get("/api/v1/dagStats", guards=[may(Role.VIEWER)])
async def get_dag_stats(request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """Count the runs of the pipelines in `dag_ids` by state."""
    wanted = Query(request, ("dag_ids",)).listed("dag_ids")
    if not wanted:
        raise Refused("Missing query parameter 'dag_ids'")
    found = (await core.catalog.span_pipelines(Span(0, MOST_COUNTED))).items
    ids = sorted({pipeline.id for pipeline in found} & set(wanted))
    totals = await core.overviews.totals(ids)
    dags = [{"dag_id": dag_id, "stats": count_states(totals[dag_id])} for dag_id in ids]
    return {"dags": dags, "total_entries": len(dags)}


async def find_dag(core: Core, dag_id: str) -> Pipeline:
    """Read a pipeline; raises Refused as Airflow does."""
    try:
        return await core.catalog.get_pipeline(dag_id)
    except NotFound:
        raise errors.dag_not_found(dag_id) from None


async def _read_patch(request: AnyRequest, core: Core, asked: Query) -> PipelinePatch:
    form = await Form.read(request, core.settings.body_limit, ("is_paused",), read_only=_READ_ONLY)
    if asked.listed("update_mask") not in ([], ["is_paused"]):
        raise Refused("Only `is_paused` field can be updated through the REST API")
    if not form.has("is_paused"):
        raise errors.invalid("'is_paused' is a required property")
    return PipelinePatch(is_paused=form.flag("is_paused"))


async def _find(
    core: Core, asked: Query, pattern: str | None, *, is_paused: bool | None = None, backwards: bool = False
) -> Counted[Pipeline]:
    span = asked.span()
    asked.flag("only_active")  # ours are, all of them
    if asked.texts("tags"):
        return Counted([], 0)
    which = PipelineFilter(pattern=None if pattern is None else f"%{pattern}%", is_paused=is_paused)
    return await core.catalog.span_pipelines(span, which=which, backwards=backwards)


async def _show(core: Core, pipeline: Pipeline) -> wire.Dag:
    schedules = await core.catalog.time_schedules([pipeline.id])
    return wire.show_dag(pipeline, schedules.get(pipeline.id))


async def _show_all(core: Core, found: Counted[Pipeline], fields: list[str]) -> wire.Dags:
    schedules = await core.catalog.time_schedules([pipeline.id for pipeline in found.items])
    shown = [wire.pick(wire.show_dag(pipeline, schedules.get(pipeline.id)), fields) for pipeline in found.items]
    return wire.Dags(shown, found.total)


handlers = (list_dags, patch_dags, get_dag, get_dag_details, patch_dag, list_tasks, get_task, get_dag_stats)
