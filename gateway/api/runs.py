"""`/v1/runs`: what ran, what runs, and stopping it."""

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.pages import Listing
from schemas.runs import LogLine, Run, RunFilter
from schemas.states import LogLevel, Origin, Role, RunState

_FILTERS = (
    "pipeline_id",
    "schedule_id",
    "event_id",
    "state",
    "origin",
    "parent_id",
    "backfill_id",
    "created_after",
    "created_before",
    "q",
    *PAGING,
)


@get("/v1/runs", guards=[needs(Role.VIEWER)], opt={"query": _FILTERS})
async def list_runs(request: AnyRequest, core: TheCore) -> Listing[Run]:
    """List runs, newest first, without their blocks.

    A page may hold fewer runs than its limit, even none, and still have a `next_cursor`: a search for a text (`q`: in
    the event's bytes, the note or the run_key) or for a combination without an index looks at so many candidates.
    """
    query = Query(request)
    page = query.page()
    schedule = query.text("schedule_id")
    which = RunFilter(
        pipeline_id=query.text("pipeline_id"),
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        event_id=query.uuid("event_id"),
        state=query.choice("state", RunState),
        origin=query.choice("origin", Origin),
        parent_id=query.uuid("parent_id"),
        backfill_id=query.uuid("backfill_id"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
        q=query.text("q"),
    )
    return page.bounded_listing(await core.runs.list_page(page, which), lambda run: run.id)


@get("/v1/runs/{run:str}", guards=[needs(Role.VIEWER)])
async def get_run(run: FromPath[str], core: TheCore) -> Run:
    """Read a run by id or number, with all its blocks."""
    return await core.runs.get(run)


@post("/v1/runs/{run:str}/cancel", guards=[needs(Role.OPERATOR)], status_code=202)
async def cancel_run(run: FromPath[str], core: TheCore) -> Response[Run]:
    """Cancel a run: at once when it is queued, else as soon as its blocks let go."""
    return Response(await core.runs.cancel(run), status_code=202)


@get(
    "/v1/runs/{run:str}/logs",
    guards=[needs(Role.VIEWER)],
    opt={"query": ("block_id", "level", "attempt", "after", *PAGING)},
)
async def list_logs(run: FromPath[str], request: AnyRequest, core: TheCore) -> Listing[LogLine]:
    """Read the log of a run in order, of a level and the more severe ones."""
    query = Query(request)
    page = query.page()
    after = query.integer("after")
    if after is not None and page.after is None:
        page = page.starting_after(after)
    found = await core.runs.list_logs(
        run,
        page,
        block_id=query.text("block_id"),
        level=query.choice("level", LogLevel),
        attempt=query.integer("attempt"),
    )
    return page.listing(found, lambda line: line.seq)


handlers = [list_runs, get_run, cancel_run, list_logs]
