"""`/v1/events`: every delivery that reached a schedule, and its bytes."""

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.events import EventFilter, InspectedEvent, ListedEvent
from schemas.pages import Listing
from schemas.states import Role, Verdict

_FILTERS = (
    "schedule_id",
    "pipeline_id",
    "source",
    "verdict",
    "reason_code",
    "event_type",
    "dedupe_key",
    "created_after",
    "created_before",
    "q",
    *PAGING,
)


@get("/v1/events", guards=[needs(Role.VIEWER)], opt={"query": _FILTERS})
async def list_events(request: AnyRequest, core: TheCore) -> Listing[ListedEvent]:
    """List events, newest first, without their bodies.

    A page may hold fewer events than its limit, even none, and still have a `next_cursor`: a filter without an index of
    its own, such as a source or a text in the body (`q`), looks at so many candidates and no more.
    """
    query = Query(request)
    page = query.page()
    schedule = query.text("schedule_id")
    which = EventFilter(
        schedule_id=(await core.catalog.get_schedule(schedule)).id if schedule else None,
        pipeline_id=query.text("pipeline_id"),
        verdict=query.choice("verdict", Verdict),
        source=query.text("source"),
        reason_code=query.text("reason_code"),
        event_type=query.text("event_type"),
        dedupe_key=query.text("dedupe_key"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
        q=query.text("q"),
    )
    return page.bounded_listing(await core.inspector.list_page(page, which), lambda event: event.id)


@get("/v1/events/{event_id:str}", guards=[needs(Role.VIEWER)])
async def get_event(event_id: FromPath[str], core: TheCore) -> InspectedEvent:
    """Read one event with its runs, replays and rules; secrets among its headers are masked."""
    return await core.inspector.inspect(path_id(event_id, "event"))


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
