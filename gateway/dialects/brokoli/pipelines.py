"""`/api/pipelines`: what can run, and the ways to run it with a key."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.auth import needs
from gateway.bodies import read_json
from gateway.dialects.brokoli import wire
from gateway.dialects.brokoli.errors import finding_pipeline
from gateway.dialects.brokoli.keys import KEYS
from gateway.dialects.brokoli.summaries import PipelineDetail, PipelineSummary, list_pipeline, show_pipeline
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore, listening
from gateway.parameters import Parameters
from gateway.prefer import LONGEST_WAIT_S
from schemas.backfills import NewBackfill
from schemas.dry_runs import DryRun
from schemas.ids import new_id
from schemas.pages import MOST_COUNTED, Span
from schemas.runs import RunFilter, Trigger
from schemas.states import Role

NEWEST = 50
DEFAULT_RUNS, MOST_RUNS = 10, 50


@get("/api/pipelines", guards=[needs(Role.VIEWER, KEYS)])
async def list_pipelines(core: TheCore) -> list[PipelineSummary]:
    """List all pipelines."""
    pipelines = (await core.catalog.span_pipelines(Span(0, MOST_COUNTED))).items
    schedules = await core.catalog.time_schedules([pipeline.id for pipeline in pipelines])
    return [list_pipeline(pipeline, schedules.get(pipeline.id)) for pipeline in pipelines]


@get("/api/pipelines/{pipeline_id:str}", guards=[needs(Role.VIEWER, KEYS)])
async def get_pipeline(pipeline_id: FromPath[str], core: TheCore) -> PipelineDetail:
    """Read a pipeline with its nodes and edges."""
    with finding_pipeline():
        pipeline = await core.catalog.get_pipeline(pipeline_id)
    return show_pipeline(pipeline, (await core.catalog.time_schedules([pipeline_id])).get(pipeline_id))


@get("/api/pipelines/{pipeline_id:str}/deps", guards=[needs(Role.VIEWER, KEYS)])
async def get_dependencies(pipeline_id: FromPath[str], core: TheCore) -> dict[str, Any]:
    """Say what a pipeline waits for: here that is never another pipeline."""
    with finding_pipeline():
        await core.catalog.get_pipeline(pipeline_id)
    return {"satisfied": True, "reason": "", "deps": []}


@post("/api/pipelines/{pipeline_id:str}/run", guards=[needs(Role.OPERATOR, KEYS)], status_code=202)
async def run(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> wire.Started:
    """Queue a run with `params`."""
    asked = await read_json(request, wire.Asked, limit=core.settings.body_limit, default=wire.Asked())
    with finding_pipeline():
        queued = await core.runs.trigger(pipeline_id, Trigger(variables=asked.params or {}))
    return wire.Started(queued.id, pipeline_id)


@get("/api/pipelines/{pipeline_id:str}/runs", guards=[needs(Role.VIEWER, KEYS)])
async def list_runs(
    pipeline_id: FromPath[str], request: AnyRequest, core: TheCore
) -> list[wire.ShownRun] | wire.RunPage:
    """List the newest 50 runs of a pipeline; with `page`, `per_page` or `page_size` as pages that tell a total."""
    asked = Parameters(request)
    number, size = asked.integer("page"), asked.integer("per_page") or asked.integer("page_size")
    with finding_pipeline():
        await core.catalog.get_pipeline(pipeline_id)
    which = RunFilter(pipeline_id=pipeline_id)
    if number is None and size is None:
        return [wire.list_run(run) for run in (await core.runs.list_span(Span(0, NEWEST), which)).items]
    number, size = number or 1, min(size or wire.DEFAULT_PAGE, wire.LARGEST_PAGE)
    return wire.page_of(await core.runs.list_span(Span.of_page(number, size), which), number, size)


@post("/api/pipelines/{pipeline_id:str}/dry-run", guards=[needs(Role.OPERATOR, KEYS)], status_code=200)
async def dry_run(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> Response[dict[str, Any]]:
    """Execute a pipeline on its first ten rows, and show what each node returns; no run is kept."""
    asked = await read_json(request, wire.Asked, limit=core.settings.body_limit, default=wire.Asked())
    with finding_pipeline():
        pipeline = await core.catalog.get_pipeline(pipeline_id)
    async with listening(request) as hung_up:
        found = await core.dry_runs.execute(
            pipeline_id, DryRun(variables=asked.params or {}), within_s=LONGEST_WAIT_S, hung_up=hung_up
        )
    return Response(wire.show_dry_run(found, wire.names_of_nodes(pipeline)))


@post("/api/pipelines/{pipeline_id:str}/backfill", guards=[needs(Role.OPERATOR, KEYS)], status_code=202)
async def backfill(
    pipeline_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> Response[list[str]]:
    """Queue a run for each day of a range, each with its day as `params.date`; they run one after another."""
    dates = await read_json(request, wire.Dates, limit=core.settings.body_limit, default=wire.Dates())
    if not (dates.start_date and dates.end_date):
        raise Refused("start_date and end_date required (YYYY-MM-DD)")
    new = NewBackfill(start=dates.start_date, end=dates.end_date, date_variable="date", key=str(new_id()))
    with finding_pipeline():
        plan = await core.backfills.plan(pipeline_id, new)
    created, _ = await core.backfills.create(plan, new, caller)
    ids = [str(run_id) for run_id in await core.backfills.run_ids(created.id)]
    return Response(ids, headers={"location": core.urls.backfill(created.id)})


@get("/api/pipelines/{pipeline_id:str}/node-stats", guards=[needs(Role.VIEWER, KEYS)])
async def node_stats(
    pipeline_id: FromPath[str], request: AnyRequest, core: TheCore
) -> dict[str, dict[str, wire.Durations]]:
    """Say how long each node took in the newest `runs`, 10 of them or at most 50."""
    count = min(Parameters(request).integer("runs") or DEFAULT_RUNS, MOST_RUNS)
    with finding_pipeline():
        await core.catalog.get_pipeline(pipeline_id)
    newest = (await core.runs.list_span(Span(0, count), RunFilter(pipeline_id=pipeline_id))).items
    ids = [run.id for run in newest]
    return {"nodes": wire.durations_of(await core.runs.begun_blocks(ids), ids)}


handlers = (list_pipelines, get_pipeline, get_dependencies, run, list_runs, dry_run, backfill, node_stats)
