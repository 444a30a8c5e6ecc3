"""`/v1/runs`: what ran and what runs."""

from litestar import get
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from gateway.runs import RunFilter
from schemas.pages import Listing
from schemas.runs import Run
from schemas.states import Role, RunState

_FILTERS = (
    "pipeline_id",
    "schedule_id",
    "event_id",
    "backfill_id",
    "state",
    "created_after",
    "created_before",
    *PAGING,
)


@get("/v1/runs", guards=[needs(Role.VIEWER)], opt={"query": _FILTERS})
async def list_runs(request: AnyRequest, core: TheCore) -> Listing[Run]:
    """List runs, newest first, without their blocks."""
    query = Query(request)
    page = query.page()
    schedule, backfill = query.text("schedule_id"), query.text("backfill_id")
    which = RunFilter(
        pipeline_id=query.text("pipeline_id"),
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        event_id=query.uuid("event_id"),
        backfill_id=await core.backfills.find(backfill) if backfill else None,
        state=query.choice("state", RunState),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
    )
    return page.listing(await core.runs.list_page(page, which), lambda run: run.id)


@get("/v1/runs/{run:str}", guards=[needs(Role.VIEWER)])
async def get_run(run: FromPath[str], core: TheCore) -> Run:
    """Read a run by id or number, with all its blocks."""
    return await core.runs.get(run)


handlers = [list_runs, get_run]
