"""`/v1/events`: every delivery that reached a schedule, and its bytes."""

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.events import Event, EventFilter
from schemas.pages import Listing
from schemas.states import Role, Verdict

_FILTERS = ("schedule_id", "verdict", "source", "created_after", "created_before", *PAGING)


@get("/v1/events", guards=[needs(Role.VIEWER)], opt={"query": _FILTERS})
async def list_events(request: AnyRequest, core: TheCore) -> Listing[Event]:
    """List events, newest first, without their bodies.

    A page may hold fewer events than its limit, even none, and still have a `next_cursor`: a source has no index of its
    own, and a page looks at so many candidates and no more.
    """
    query = Query(request)
    page = query.page()
    schedule = query.text("schedule_id")
    which = EventFilter(
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        verdict=query.choice("verdict", Verdict),
        source=query.text("source"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
    )
    return page.bounded_listing(await core.inspector.list_page(page, which), lambda event: event.id)


@get("/v1/events/{event_id:str}", guards=[needs(Role.VIEWER)])
async def get_event(event_id: FromPath[str], core: TheCore) -> Event:
    """Read one event; secrets among its headers are masked."""
    return await core.inspector.get(path_id(event_id, "event"))


@get("/v1/events/{event_id:str}/body", guards=[needs(Role.VIEWER)])
async def get_event_body(event_id: FromPath[str], core: TheCore) -> Stream:
    """Download the bytes of an event as they came."""
    found = path_id(event_id, "event")
    size, pieces = await core.inspector.body_in_pieces(found)
    return Stream(
        pieces,
        media_type="application/octet-stream",  # never the sender's type: a browser must not run what it sent
        headers={"content-disposition": f'attachment; filename="{found}"', "content-length": str(size)},
    )


handlers = [list_events, get_event, get_event_body]
