"""`/v1/runs`: what ran and what runs."""

from litestar import get
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.pages import Listing
from schemas.runs import Run, RunFilter
from schemas.states import Origin, Role, RunState

_FILTERS = (
    "pipeline_id",
    "schedule_id",
    "event_id",
    "state",
    "origin",
    "parent_id",
    "backfill_id",
    "replay_id",
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
    schedule, backfill, replay = query.text("schedule_id"), query.text("backfill_id"), query.text("replay_id")
    which = RunFilter(
        pipeline_id=query.text("pipeline_id"),
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        event_id=query.uuid("event_id"),
        backfill_id=await core.backfills.find(backfill) if backfill else None,
        replay_id=await core.replays.find(replay) if replay else None,
        state=query.choice("state", RunState),
        origin=query.choice("origin", Origin),
        parent_id=query.uuid("parent_id"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
        q=query.text("q"),
    )
    return page.bounded_listing(await core.runs.list_page(page, which), lambda run: run.id)


@get("/v1/runs/{run:str}", guards=[needs(Role.VIEWER)])
async def get_run(run: FromPath[str], core: TheCore) -> Run:
    """Read a run by id or number, with all its blocks."""
    return await core.runs.get(run)


handlers = [list_runs, get_run]
