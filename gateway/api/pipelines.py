"""`/v1/pipelines`: what can run, and starting it."""

import msgspec
from litestar import Response, get, patch, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.pages import Listing
from schemas.pipelines import Pipeline, PipelinePatch
from schemas.runs import Run, Trigger
from schemas.states import Role

PARENT_HEADER = "x-penstock-run"


@get("/v1/pipelines", guards=[needs(Role.VIEWER)], opt={"query": ("q", *PAGING)})
async def list_pipelines(request: AnyRequest, core: TheCore) -> Listing[Pipeline]:
    """List pipelines by id, also those whose file is broken (`error` says how)."""
    query = Query(request)
    page = query.page()
    return page.listing(await core.catalog.list_pipelines(page, q=query.text("q")), lambda pipeline: pipeline.id)


@get("/v1/pipelines/{pipeline_id:str}", guards=[needs(Role.VIEWER)])
async def get_pipeline(pipeline_id: FromPath[str], core: TheCore) -> Pipeline:
    """Read one pipeline with its graph and the JSON Schema of its params."""
    return await core.catalog.get_pipeline(pipeline_id)


@patch("/v1/pipelines/{pipeline_id:str}", guards=[needs(Role.OPERATOR)], opt={"body": PipelinePatch})
async def patch_pipeline(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Pipeline:
    """Pause or unpause a pipeline."""
    patch = await read_json(request, PipelinePatch, limit=core.settings.body_limit)
    core.callbacks.check_notify(patch.notify)
    return await core.catalog.patch_pipeline(pipeline_id, patch, caller)


@post("/v1/pipelines/{pipeline_id:str}/runs", guards=[needs(Role.OPERATOR)], opt={"body": Trigger}, status_code=202)
async def trigger_run(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> Response[Run]:
    """Queue a run; an empty body is a run with the pipeline's defaults."""
    trigger = await read_json(request, Trigger, limit=core.settings.body_limit, default=Trigger())
    core.callbacks.check(trigger.callback_url, "/callback_url")
    parent = await core.callbacks.parent(request.headers.get(PARENT_HEADER))
    run = await core.runs.trigger(
        pipeline_id, msgspec.structs.replace(trigger, triggered_by=trigger.triggered_by or parent)
    )
    return Response(run, status_code=202, headers={"location": core.urls.run(run.id)})


handlers = [list_pipelines, get_pipeline, patch_pipeline, trigger_run]
