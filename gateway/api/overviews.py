"""`/v1/calendar`, `/v1/dashboard`, `/v1/lineage`, `/v1/search`, `/v1/system`: what many runs say together."""

import msgspec
from litestar import get
from litestar.params import FromPath

from gateway.api.query import Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.errors import FieldError, Invalid
from schemas.overviews import Dashboard, Day, Hit, Lineage, System
from schemas.states import Role

DEFAULT_DAYS, MOST_DAYS = 90, 365
DEFAULT_HITS, MOST_HITS = 30, 100
LONGEST_QUERY = 200


class Calendar(msgspec.Struct, frozen=True):
    """Days of UTC, the oldest first; the last is today."""

    items: list[Day]


class Hits(msgspec.Struct, frozen=True):
    """What a search found."""

    items: list[Hit]


@get("/v1/calendar", guards=[needs(Role.VIEWER)], opt={"query": ("days", "pipeline_id")})
async def calendar(request: AnyRequest, core: TheCore) -> Calendar:
    """Count the runs of each of the last 1 to 365 days (90 unless `days` says otherwise) by their state now.

    A run counts on the day of UTC on which it was made, also when it has been purged since.
    """
    query = Query(request)
    days = _between(query, "days", DEFAULT_DAYS, MOST_DAYS)
    return Calendar(await core.overviews.calendar(days, pipeline_id=query.text("pipeline_id")))


@get("/v1/dashboard", guards=[needs(Role.VIEWER)], opt={"query": ()})
async def dashboard(request: AnyRequest, core: TheCore) -> Dashboard:
    """Read what runs and waits, the last failures, the trend of seven days, what fails most, and what fires next."""
    Query(request)
    return await core.overviews.dashboard()


@get("/v1/lineage", guards=[needs(Role.VIEWER)], opt={"query": ("pipeline_id",)})
async def lineage(request: AnyRequest, core: TheCore) -> Lineage:
    """Draw schedules, pipelines, blocks and the datasets that these read and write; or what is connected with one."""
    return await core.overviews.lineage(pipeline_id=Query(request).text("pipeline_id"))


@get("/v1/runs/{run:str}/lineage", guards=[needs(Role.VIEWER)])
async def run_lineage(run: FromPath[str], core: TheCore) -> Lineage:
    """Draw the event and the runs that a run came from, and the runs that came of it."""
    return await core.overviews.lineage_of_run(run)


@get("/v1/search", guards=[needs(Role.VIEWER)], opt={"query": ("q", "limit")})
async def search(request: AnyRequest, core: TheCore) -> Hits:
    """Find pipelines, schedules, runs and events by what people remember of them.

    Names, descriptions, notes, event types and delivery ids are found by any part in any case, of the newest runs and
    events; ids and numbers exactly, a run_key by its beginning, and a whole delivery id at any age.
    """
    query = Query(request)
    q = (query.text("q") or "").strip()
    if not 1 <= len(q) <= LONGEST_QUERY:
        raise _wrong("q", f"it has 1 to {LONGEST_QUERY} characters")
    return Hits(await core.overviews.search(q, limit=_between(query, "limit", DEFAULT_HITS, MOST_HITS)))


@get("/v1/system", guards=[needs(Role.VIEWER)], opt={"query": ()})
async def system(request: AnyRequest, core: TheCore) -> System:
    """Describe this installation: version, sizes, runners, queue."""
    Query(request)
    return await core.overviews.system()


def _between(query: Query, name: str, default: int, largest: int) -> int:
    value = query.integer(name)
    if value is None:
        return default
    if not 1 <= value <= largest:
        raise _wrong(name, f"it is between 1 and {largest}")
    return value


def _wrong(name: str, message: str) -> Invalid:
    return Invalid(f"The parameter {name}: {message}.", errors=(FieldError(f"/{name}", message),))


handlers = [calendar, dashboard, lineage, run_lineage, search, system]
