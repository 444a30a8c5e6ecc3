"""`/v1/schedules`: what may start a pipeline, with its tokens and links."""

from litestar import delete, get, patch, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.pages import Listing
from schemas.schedules import (
    ImportedToken,
    Link,
    NewLink,
    NewSchedule,
    NewToken,
    Schedule,
    SchedulePatch,
    ShownToken,
    Token,
)
from schemas.states import Role


@get("/v1/schedules", guards=[needs(Role.VIEWER)], opt={"query": ("pipeline_id", "source", "q", *PAGING)})
async def list_schedules(request: AnyRequest, core: TheCore) -> Listing[Schedule]:
    """List schedules, newest first; secrets are masked."""
    query = Query(request)
    page = query.page()
    found = await core.catalog.list_schedules(
        page, pipeline_id=query.text("pipeline_id"), source=query.text("source"), q=query.text("q")
    )
    return page.listing(found, lambda schedule: schedule.id)


@post("/v1/schedules", guards=[needs(Role.EDITOR)], opt={"body": NewSchedule})
async def create_schedule(request: AnyRequest, core: TheCore, caller: TheCaller) -> Schedule:
    """Create a schedule."""
    new = await read_json(request, NewSchedule, limit=core.settings.body_limit)
    core.callbacks.check_notify(new.notify)
    return await core.catalog.create_schedule(new, caller)


@get("/v1/schedules/{schedule:str}", guards=[needs(Role.VIEWER)])
async def get_schedule(schedule: FromPath[str], core: TheCore) -> Schedule:
    """Read a schedule by id or number."""
    return await core.catalog.get_schedule(schedule)


@patch("/v1/schedules/{schedule:str}", guards=[needs(Role.EDITOR)], opt={"body": SchedulePatch})
async def patch_schedule(schedule: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Schedule:
    """Change what the body names."""
    patch = await read_json(request, SchedulePatch, limit=core.settings.body_limit)
    core.callbacks.check_notify(patch.notify)
    return await core.catalog.patch_schedule(schedule, patch, caller)


@delete("/v1/schedules/{schedule:str}", guards=[needs(Role.EDITOR)])
async def delete_schedule(schedule: FromPath[str], core: TheCore, caller: TheCaller) -> None:
    """Delete a schedule: its tokens and links stop working at once, its runs stay."""
    await core.catalog.delete_schedule(schedule, caller)


@post("/v1/schedules/{schedule:str}/tokens", guards=[needs(Role.EDITOR)], opt={"body": NewToken})
async def create_token(schedule: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> ShownToken:
    """Create a token; this answer is the only place where it is shown."""
    new = await read_json(request, NewToken, limit=core.settings.body_limit, default=NewToken())
    return await core.catalog.create_token(schedule, new, caller)


@post("/v1/schedules/{schedule:str}/tokens/imported", guards=[needs(Role.EDITOR)], opt={"body": ImportedToken})
async def import_token(schedule: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Token:
    """Let a token that a sender already has fire this schedule; only its hash comes here."""
    new = await read_json(request, ImportedToken, limit=core.settings.body_limit)
    return await core.catalog.import_token(schedule, new, caller)


@get("/v1/schedules/{schedule:str}/tokens", guards=[needs(Role.VIEWER)], opt={"query": PAGING})
async def list_tokens(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Listing[Token]:
    """List the tokens of a schedule by hint, newest first."""
    Query(request)
    return Listing(await core.catalog.list_tokens(schedule), None)


@post("/v1/schedules/{schedule:str}/links", guards=[needs(Role.EDITOR)], opt={"body": NewLink})
async def create_link(schedule: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Link:
    """Create a signed trigger link that expires and can be used so many times."""
    new = await read_json(request, NewLink, limit=core.settings.body_limit, default=NewLink())
    return await core.catalog.create_link(schedule, new, caller)


handlers = [
    list_schedules,
    create_schedule,
    get_schedule,
    patch_schedule,
    delete_schedule,
    create_token,
    import_token,
    list_tokens,
    create_link,
]
