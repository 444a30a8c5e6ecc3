"""`/v1/backfills`: a pipeline run once for each date of a range."""

from litestar import Response, get, patch, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.backfills import Backfill, BackfillPatch, BackfillPreview, BackfillState, NewBackfill
from schemas.pages import Listing
from schemas.states import Role


@post(
    "/v1/pipelines/{pipeline_id:str}/backfills",
    guards=[needs(Role.OPERATOR)],
    status_code=202,
    opt={
        "body": NewBackfill,
        "answers": {
            200: (Backfill | BackfillPreview, "The backfill was there already, or (`dry_run`) nothing was written"),
            202: (Backfill, "All its runs are queued"),
        },
    },
)
async def create_backfill(
    pipeline_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> Response[Backfill | BackfillPreview]:
    """Queue one run for each logical date of a range, in order; asking again for the same creates nothing."""
    new = await read_json(request, NewBackfill, limit=core.settings.body_limit)
    plan = await core.backfills.plan(pipeline_id, new)
    if new.dry_run:
        return Response(plan.preview(), status_code=200)
    backfill, is_new = await core.backfills.create(plan, new, caller)
    return Response(backfill, status_code=202 if is_new else 200, headers={"location": core.urls.backfill(backfill.id)})


@get("/v1/backfills", guards=[needs(Role.VIEWER)], opt={"query": ("pipeline_id", "state", *PAGING)})
async def list_backfills(request: AnyRequest, core: TheCore) -> Listing[Backfill]:
    """List backfills, newest first, with their progress."""
    query = Query(request)
    page = query.page()
    found = await core.backfills.list_page(
        page, pipeline_id=query.text("pipeline_id"), state=query.choice("state", BackfillState)
    )
    return page.listing(found, lambda backfill: backfill.id)


@get("/v1/backfills/{backfill:str}", guards=[needs(Role.VIEWER)])
async def get_backfill(backfill: FromPath[str], core: TheCore) -> Backfill:
    """Read a backfill by id or number, with its progress."""
    return await core.backfills.get(backfill)


@patch("/v1/backfills/{backfill:str}", guards=[needs(Role.OPERATOR)], opt={"body": BackfillPatch})
async def patch_backfill(backfill: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Backfill:
    """Change how many of its runs may execute at the same time."""
    change = await read_json(request, BackfillPatch, limit=core.settings.body_limit)
    return await core.backfills.patch(backfill, change, caller)


@post("/v1/backfills/{backfill:str}/pause", guards=[needs(Role.OPERATOR)], status_code=200)
async def pause_backfill(backfill: FromPath[str], core: TheCore, caller: TheCaller) -> Backfill:
    """Let none of its runs begin until it is unpaused; those that run go on."""
    return await core.backfills.set_paused(backfill, caller, is_paused=True)


@post("/v1/backfills/{backfill:str}/unpause", guards=[needs(Role.OPERATOR)], status_code=200)
async def unpause_backfill(backfill: FromPath[str], core: TheCore, caller: TheCaller) -> Backfill:
    """Let its runs begin again."""
    return await core.backfills.set_paused(backfill, caller, is_paused=False)


@post("/v1/backfills/{backfill:str}/cancel", guards=[needs(Role.OPERATOR)], status_code=202)
async def cancel_backfill(backfill: FromPath[str], core: TheCore, caller: TheCaller) -> Response[Backfill]:
    """Cancel its queued runs at once, and the running ones as soon as their blocks let go."""
    return Response(await core.backfills.cancel(backfill, caller), status_code=202)


handlers = [
    create_backfill,
    list_backfills,
    get_backfill,
    patch_backfill,
    pause_backfill,
    unpause_backfill,
    cancel_backfill,
]
