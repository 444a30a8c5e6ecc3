"""`/v1/runs/{id}/logs`: what the blocks of a run wrote."""

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from gateway.logs import LogFilter
from schemas.pages import Listing
from schemas.runs import LogLine
from schemas.states import LogLevel, Role

_FILTERS = ("block_id", "map_index", "level", "attempt", "created_after", "created_before")


@get("/v1/runs/{run:str}/logs", guards=[needs(Role.VIEWER)], opt={"query": (*_FILTERS, "after", *PAGING)})
async def list_logs(run: FromPath[str], request: AnyRequest, core: TheCore) -> Listing[LogLine]:
    """Read the log of a run in order, of a level and the more severe ones."""
    query = Query(request)
    page = query.page()
    after = query.integer("after")
    if after is not None and page.after is None:
        page = page.starting_after(after)
    return page.listing(await core.logs.list_page(run, page, _filter(query)), lambda line: line.seq)


@get(
    "/v1/runs/{run:str}/logs/export",
    guards=[needs(Role.VIEWER)],
    opt={"query": _FILTERS},
    media_type="text/plain",
)
async def export_logs(run: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Download the log of a run as text, one line per entry; what could steer a terminal is escaped."""
    export = await core.logs.export(run, _filter(Query(request)))
    headers = {"content-disposition": f'attachment; filename="{export.name}"', "cache-control": "no-store"}
    return Stream(export.pieces, media_type="text/plain", headers=headers)


def _filter(query: Query) -> LogFilter:
    return LogFilter(
        block_id=query.text("block_id"),
        map_index=query.integer("map_index"),
        level=query.choice("level", LogLevel),
        attempt=query.integer("attempt"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
    )


handlers = [list_logs, export_logs]
