"""`/v1/scheduler`, and when schedules of kind `time` fire next."""

import datetime as dt

import msgspec
from litestar import get
from litestar.params import FromPath

from gateway import clocks
from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.errors import FieldError, Invalid
from schemas.firing import ClockStatus, Slot
from schemas.pages import Listing
from schemas.states import Role
from schemas.timetables import Timetable

FEW = 10
MOST = 100


class TimetablePreview(msgspec.Struct, frozen=True):
    """The next slots of a timetable that no schedule has yet."""

    items: list[dt.datetime]


@get("/v1/scheduler", guards=[needs(Role.VIEWER)], opt={"query": ("pipeline_id", *PAGING)})
async def list_clocks(request: AnyRequest, core: TheCore) -> Listing[ClockStatus]:
    """List the schedules of kind time in the order in which they fire; those that have ended come last."""
    query = Query(request)
    page = query.page()
    found = await core.clocks.list_page(page, pipeline_id=query.text("pipeline_id"))
    return page.listing(found, clocks.cursor_of)


@get("/v1/schedules/{schedule:str}/next", guards=[needs(Role.VIEWER)], opt={"query": ("count",)})
async def list_next(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Listing[Slot]:
    """Say when a schedule fires next, as if it were never paused: each slot, and when it is due with its jitter."""
    return Listing(await core.clocks.list_next(schedule, _count(Query(request))), None)


@get(
    "/v1/timetable",
    guards=[needs(Role.VIEWER)],
    opt={"query": ("cron", "every_s", "timezone", "start_at", "end_at", "count")},
)
async def try_timetable(request: AnyRequest, core: TheCore) -> TimetablePreview:
    """Try a cron or an interval before a schedule has it: the next slots, or what is wrong with it."""
    query = Query(request)
    table = Timetable.parse(
        query.text("cron"),
        query.integer("every_s"),
        query.text("timezone") or "UTC",
        query.moment("start_at"),
        query.moment("end_at"),
    )
    return TimetablePreview(await core.clocks.try_out(table, _count(query)))


def _count(query: Query) -> int:
    count = query.integer("count")
    if count is not None and not 1 <= count <= MOST:
        raise Invalid(f"count is between 1 and {MOST}, not {count}.", errors=(FieldError("/count", f"1 to {MOST}"),))
    return count or FEW


handlers = [list_clocks, list_next, try_timetable]
