"""`/api/v2/dags` and `/api/v2/dagStats`: pipelines, their blocks, and how many runs they have."""

from typing import Any

from litestar import get, patch
from litestar.params import FromPath

from gateway.airflow import runs
from gateway.airflow.pipelines import blocks_of
from gateway.airflow.words import OWNER
from gateway.core import Core
from gateway.dialects.airflow_v2 import dags, errors, queries
from gateway.dialects.airflow_v2.fields import Fields
from gateway.dialects.airflow_v2.keys import may
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.errors import NotFound
from schemas.pages import MOST_COUNTED, Span
from schemas.pipelines import Pipeline, PipelineFilter, PipelinePatch
from schemas.states import Role

_NOT_SERVED = (
    "last_dag_run_state",
    "bundle_name",
    "bundle_version",
    "has_asset_schedule",
    "asset_dependency",
    "is_favorite",
    "timetable_type",
    "dag_run_state",
    *(f"dag_run_{which}_date_{bound}" for which in ("start", "end") for bound in ("gte", "gt", "lte", "lt")),
)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@get("/api/v2/dags", guards=[may(Role.VIEWER)])
async def list_dags(request: AnyRequest, core: TheCore) -> dags.Dags:
    """List pipelines by name; tags and owners other than `penstock` are of none of them."""
    asked = Parameters(request)
    for name in _NOT_SERVED:
        if asked.text(name) is not None:
            raise errors.not_served(f"The filter {name}")
    span, is_backwards = queries.span(asked), runs.backwards(asked.texts("order_by"), "dag_id", "dag_display_name")
    if asked.texts("tags") or (asked.texts("owners") and OWNER not in asked.texts("owners")):
        return dags.Dags([], 0)
    which = PipelineFilter(
        pattern=queries.pattern_of(asked, "dag_id", "dag_display_name"),
        is_paused=_flag(asked, "paused"),
        is_broken=_flag(asked, "has_import_errors"),
    )
    found = await core.catalog.span_pipelines(span, which=which, backwards=is_backwards)
    schedules = await core.catalog.time_schedules([pipeline.id for pipeline in found.items])
    shown = [dags.show_dag(pipeline, schedules.get(pipeline.id)) for pipeline in found.items]
    return dags.Dags(shown, found.total)


@get("/api/v2/dags/{dag_id:str}", guards=[may(Role.VIEWER)])
async def get_dag(dag_id: FromPath[str], core: TheCore) -> dags.Dag:
    """Read one pipeline."""
    return await _show(core, await find_dag(core, dag_id))


@get("/api/v2/dags/{dag_id:str}/details", guards=[may(Role.VIEWER)])
async def get_dag_details(dag_id: FromPath[str], core: TheCore) -> dags.DagDetails:
    """Read one pipeline with its params and its documentation."""
    pipeline = await find_dag(core, dag_id)
    schedules = await core.catalog.time_schedules([dag_id])
    totals = await core.overviews.totals([dag_id])
    return dags.show_details(pipeline, schedules.get(dag_id), totals.get(dag_id))


@patch("/api/v2/dags/{dag_id:str}", guards=[may(Role.OPERATOR)])
async def patch_dag(dag_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> dags.Dag:
    """Pause a pipeline, or let it run again."""
    given = await Fields.read(request, core.settings.body_limit)
    given.require("is_paused")
    is_paused = given.flag("is_paused")
    given.refuse_wrong()
    mask = Parameters(request).texts("update_mask")
    if mask not in ([], ["is_paused"]):
        raise Refused("Only `is_paused` field can be updated through the REST API")
    await find_dag(core, dag_id)
    return await _show(core, await core.catalog.patch_pipeline(dag_id, PipelinePatch(is_paused=is_paused), caller))


@get("/api/v2/dags/{dag_id:str}/tasks", guards=[may(Role.VIEWER)])
async def list_tasks(dag_id: FromPath[str], request: AnyRequest, core: TheCore) -> dags.Tasks:
    """List the blocks of a pipeline by name."""
    is_backwards = runs.backwards(Parameters(request).texts("order_by"), "task_id", "task_display_name")
    pipeline = await find_dag(core, dag_id)
    blocks = blocks_of(pipeline)
    agent = request.headers.get("user-agent", "")
    names = sorted(blocks, reverse=is_backwards)
    return dags.Tasks([dags.show_task(blocks[name], blocks, pipeline.queue, agent) for name in names], len(names))


@get("/api/v2/dags/{dag_id:str}/tasks/{task_id:str}", guards=[may(Role.VIEWER)])
async def get_task(dag_id: FromPath[str], task_id: FromPath[str], request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """Read one block of a pipeline."""
    pipeline = await find_dag(core, dag_id)
    blocks = blocks_of(pipeline)
    if task_id not in blocks:
        raise Refused(f"Task with id {task_id} was not found", status=404)
    return dags.show_task(blocks[task_id], blocks, pipeline.queue, request.headers.get("user-agent", ""))


@get("/api/v2/dagStats", guards=[may(Role.VIEWER)])
async def get_dag_stats(request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """Count the runs of pipelines by state, of all without `dag_ids`."""
    found = (await core.catalog.span_pipelines(Span(0, MOST_COUNTED))).items
    wanted = Parameters(request).texts("dag_ids") or [pipeline.id for pipeline in found]
    ids = sorted({pipeline.id for pipeline in found} & set(wanted))
    totals = await core.overviews.totals(ids)
    return {"dags": [dags.show_totals(dag_id, totals[dag_id]) for dag_id in ids], "total_entries": len(ids)}


async def find_dag(core: Core, dag_id: str) -> Pipeline:
    """Read a pipeline; raises Refused as Airflow does."""
    try:
        return await core.catalog.get_pipeline(dag_id)
    except NotFound:
        raise errors.dag_not_found(dag_id) from None


async def _show(core: Core, pipeline: Pipeline) -> dags.Dag:
    schedules = await core.catalog.time_schedules([pipeline.id])
    return dags.show_dag(pipeline, schedules.get(pipeline.id))


def _flag(asked: Parameters, name: str) -> bool | None:
    text = asked.text(name)
    if text is not None and text.lower() not in _FLAGS:
        message = "Input should be a valid boolean, unable to interpret input"
        raise errors.unprocessable(errors.fault("bool_parsing", ("query", name), message, text))
    return None if text is None else _FLAGS[text.lower()]


handlers = (list_dags, get_dag, get_dag_details, patch_dag, list_tasks, get_task, get_dag_stats)
