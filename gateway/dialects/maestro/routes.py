"""Maestro's routes: each reads the request, asks the core, and shapes the answer."""

import msgspec
from litestar import get, patch, post
from litestar.params import FromPath
from msgspec import UNSET

from gateway.auth import Keys, bearer, header, needs
from gateway.bodies import decode_json, read_body, read_json
from gateway.core import Core
from gateway.dialects.maestro import errors, wire
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.errors import Conflict, NotFound
from schemas.keys import Caller
from schemas.pages import LARGEST_LIMIT, MOST_COUNTED, Span
from schemas.pipelines import Pipeline, PipelinePatch
from schemas.runs import RunFilter, Trigger
from schemas.schedules import NewSchedule, SchedulePatch
from schemas.states import OnPaused, Role, ScheduleKind

_KEYS = Keys((bearer, header("authorization")))


@post("/platform/pipeline/execute", guards=[needs(Role.OPERATOR, _KEYS)], status_code=200)
async def execute(request: AnyRequest, core: TheCore) -> wire.Succeeded:
    """Queue a run; a paused pipeline is refused."""
    pipeline = await _named(request, core)
    try:
        run = await core.runs.trigger_now(pipeline.id, Trigger(), on_paused=OnPaused.REJECT)
    except Conflict as error:
        raise errors.paused() if error.extra.get("is_paused") else error from None
    return _done("Pipeline execution triggered successfully", pipeline, run.run_key)


@post("/platform/pipeline/pause", guards=[needs(Role.OPERATOR, _KEYS)], status_code=200)
async def pause(request: AnyRequest, core: TheCore, caller: TheCaller) -> wire.Succeeded:
    """Pause a pipeline; what runs goes on."""
    pipeline = await _named(request, core)
    if pipeline.is_paused:
        raise errors.already_paused()
    await core.catalog.patch_pipeline(pipeline.id, PipelinePatch(is_paused=True), caller)
    return _done("Pipeline paused successfully", pipeline)


@post("/platform/pipeline/unpause", guards=[needs(Role.OPERATOR, _KEYS)], status_code=200)
async def unpause(request: AnyRequest, core: TheCore, caller: TheCaller) -> wire.Succeeded:
    """Let a paused pipeline run again."""
    pipeline = await _named(request, core)
    if not pipeline.is_paused:
        raise errors.not_paused()
    await core.catalog.patch_pipeline(pipeline.id, PipelinePatch(is_paused=False), caller)
    return _done("Pipeline unpaused successfully", pipeline)


@get("/platform/pipelines", guards=[needs(Role.VIEWER, _KEYS)])
async def list_pipelines(core: TheCore) -> list[wire.ListedPipeline]:
    """List all pipelines with their jobs and how their newest run ended."""
    pipelines = (await core.catalog.span_pipelines(Span(0, MOST_COUNTED))).items
    ids = [pipeline.id for pipeline in pipelines]
    schedules = await core.catalog.time_schedules(ids)
    newest = await core.runs.newest_of(ids)
    begun = await core.runs.begun_blocks([run.id for run in newest.values()])
    return [
        wire.list_pipeline(
            pipeline, schedules.get(pipeline.id), run := newest.get(pipeline.id), begun[run.id] if run else ()
        )
        for pipeline in pipelines
    ]


@get("/platform/pipeline/{pipeline_id:str}", guards=[needs(Role.VIEWER, _KEYS)])
async def get_pipeline(pipeline_id: FromPath[str], core: TheCore) -> wire.Succeeded:
    """Read one pipeline."""
    pipeline = await _find(core, pipeline_id)
    schedules = await core.catalog.time_schedules([pipeline.id])
    return wire.Succeeded(wire.show_pipeline(pipeline, schedules.get(pipeline.id)))


@patch("/platform/pipeline/{pipeline_id:str}", guards=[needs(Role.EDITOR, _KEYS)])
async def patch_pipeline(
    pipeline_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> dict[str, str]:
    """Change what users call a pipeline, and its cron."""
    body = await read_body(request, core.settings.body_limit)
    for name in decode_json(body, dict[str, msgspec.Raw]):
        if name not in wire.Patch.__struct_fields__:
            raise errors.read_only(name)
    wanted = decode_json(body, wire.Patch)
    try:
        pipeline = await core.catalog.find_pipeline(wire.spellings(pipeline_id))
    except NotFound:
        raise errors.not_found_to_patch(wire.underscored(pipeline_id)) from None
    if wanted.cron is not UNSET:
        await _set_cron(core, pipeline, wanted.cron, caller)
    if (wanted.name, wanted.description) != (UNSET, UNSET):
        changed = PipelinePatch(name=wanted.name, description=wanted.description)
        await core.catalog.patch_pipeline(pipeline.id, changed, caller)
    return {"detail": f"successfully patched the item of the pipeline_id: {wire.underscored(pipeline.id)}"}


@get("/platform/pipeline/{pipeline_id:str}/pipeline_run", guards=[needs(Role.VIEWER, _KEYS)])
async def list_runs(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> list[wire.PipelineRun]:
    """List the newest runs of a pipeline; `limit` and `offset` reach further back."""
    pipeline = await _find(core, pipeline_id)
    asked = Parameters(request)
    span = Span.within(asked.integer("offset"), asked.integer("limit"), default=LARGEST_LIMIT, largest=LARGEST_LIMIT)
    found = await core.runs.list_span(span, RunFilter(pipeline_id=pipeline.id))
    return [wire.show_run(run) for run in found.items]


@get("/platform/pipeline/{pipeline_id:str}/pipeline_run/{run_id:str}", guards=[needs(Role.VIEWER, _KEYS)])
async def get_run(pipeline_id: FromPath[str], run_id: FromPath[str], core: TheCore) -> wire.PipelineRun:
    """Read a run by its `pipeline_run_id`, or by the `run_id` that execute gave."""
    pipeline = await _find(core, pipeline_id)
    try:
        return wire.show_run(await core.runs.in_pipeline(pipeline.id, wire.hyphenated(run_id)))
    except NotFound:
        raise errors.run_not_found(wire.underscored(run_id)) from None


async def _named(request: AnyRequest, core: Core) -> Pipeline:
    named = await read_json(request, wire.Named, limit=core.settings.body_limit, default=wire.Named())
    if not named.pipeline_id:
        raise errors.missing_id()
    return await _find(core, named.pipeline_id)


async def _find(core: Core, pipeline_id: str) -> Pipeline:
    try:
        return await core.catalog.find_pipeline(wire.spellings(pipeline_id))
    except NotFound:
        raise errors.not_found(wire.underscored(pipeline_id)) from None


async def _set_cron(core: Core, pipeline: Pipeline, cron: str | None, caller: Caller) -> None:
    schedule = (await core.catalog.time_schedules([pipeline.id])).get(pipeline.id)
    if cron is not None and schedule is None:
        new = NewSchedule(pipeline_id=pipeline.id, name="cron", kind=ScheduleKind.TIME, cron=cron)
        await core.catalog.create_schedule(new, caller)
    elif cron is not None and schedule is not None:
        await core.catalog.patch_schedule(str(schedule.id), SchedulePatch(cron=cron), caller)
    elif schedule is not None:
        await core.catalog.delete_schedule(str(schedule.id), caller)


def _done(message: str, pipeline: Pipeline, run_id: str | None = None) -> wire.Succeeded:
    return wire.Succeeded(wire.Done(message, wire.underscored(pipeline.id), run_id))


handlers = (execute, pause, unpause, list_pipelines, get_pipeline, patch_pipeline, list_runs, get_run)
