"""What many runs say together, the state of the installation, and its purge."""

from typing import Any

import msgspec
from litestar import Response, get, post

from gateway import clocks
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.checks import check
from gateway.core import Core
from gateway.dialects.brokoli import summaries
from gateway.dialects.brokoli.keys import KEYS
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore, TheDraining
from gateway.parameters import Parameters
from schemas.firing import ClockStatus
from schemas.pages import LARGEST_LIMIT, MOST_COUNTED, Page, Span
from schemas.pipelines import Pipeline
from schemas.purges import Days
from schemas.runs import RunFilter
from schemas.states import Role, RunState

RECENT, MOST_RUNNING = 50, 200
DEFAULT_HITS, MOST_HITS = 30, 100
LONGEST_QUERY = 200


class Purge(msgspec.Struct, frozen=True):
    """The body of a purge."""

    days: Days | None = None


@get("/api/lineage", guards=[needs(Role.VIEWER, KEYS)])
async def lineage(core: TheCore) -> summaries.Lineage:
    """Draw the datasets and the nodes that read and write them, of all pipelines."""
    return summaries.show_lineage(await core.overviews.lineage(pipeline_id=None), _names(await _pipelines(core)))


@get("/api/scheduler/status", guards=[needs(Role.VIEWER, KEYS)])
async def scheduler_status(core: TheCore) -> list[summaries.ScheduleEntry]:
    """List the schedules in the order in which they fire."""
    names = _names(await _pipelines(core))
    return [summaries.show_clock(clock, names) for clock in await _clocks(core)]


@get("/api/dashboard", guards=[needs(Role.VIEWER, KEYS)])
async def dashboard(core: TheCore) -> summaries.Dashboard:
    """Read all pipelines, the newest runs, the trend of seven days, and what fails most."""
    pipelines = await _pipelines(core)
    schedules = await core.catalog.time_schedules([pipeline.id for pipeline in pipelines])
    return summaries.show_dashboard(
        await core.overviews.dashboard(),
        [summaries.list_pipeline(pipeline, schedules.get(pipeline.id)) for pipeline in pipelines],
        (await core.runs.list_span(Span(0, RECENT), RunFilter())).items,
        (await core.runs.list_span(Span(0, MOST_RUNNING), RunFilter(state=RunState.RUNNING))).items,
        await core.overviews.last_hours(),
    )


@get("/api/search", guards=[needs(Role.VIEWER, KEYS)])
async def search(request: AnyRequest, core: TheCore) -> list[summaries.Found]:
    """Find pipelines, schedules, runs and events by `q`, at most 30 or `limit` (100)."""
    asked = Parameters(request)
    q = (asked.text("q") or "").strip()
    if not 1 <= len(q) <= LONGEST_QUERY:
        raise Refused(f"q is required, with at most {LONGEST_QUERY} characters")
    limit = min(asked.integer("limit") or DEFAULT_HITS, MOST_HITS)
    return [summaries.show_hit(hit) for hit in await core.overviews.search(q, limit=limit)]


@get("/api/system/info", guards=[needs(Role.VIEWER, KEYS)])
async def system_info(core: TheCore) -> summaries.SystemInfo:
    """Describe the installation."""
    return summaries.show_system(await core.overviews.system(), runs_of_a_runner=core.settings.max_runs)


@post("/api/system/purge", guards=[needs(Role.ADMIN, KEYS)], status_code=202)
async def purge(request: AnyRequest, core: TheCore, caller: TheCaller) -> dict[str, Any]:
    """Delete the runs that ended more than `days` days ago, 30 unless said otherwise; a runner begins at once."""
    days = (await read_json(request, Purge, limit=core.settings.body_limit, default=Purge())).days or 30
    found = await core.purging.preview(days)
    await core.purging.ask(days, caller)
    return {"deleted": found.runs, "days": days}


@get("/health")
async def health(core: TheCore, draining: TheDraining) -> Response[dict[str, str]]:
    """Say whether deliveries are taken."""
    checks = await check(core.db, core.redis)
    if draining.is_set or "failed" in (checks["postgres"], checks["migrations"]):
        return Response({"status": "unhealthy"}, status_code=503, headers={"retry-after": "1"})
    return Response({"status": "healthy"})


async def _pipelines(core: Core) -> list[Pipeline]:
    return list((await core.catalog.span_pipelines(Span(0, MOST_COUNTED))).items)


def _names(pipelines: list[Pipeline]) -> dict[str, str]:
    return {pipeline.id: summaries.name_pipeline(pipeline) for pipeline in pipelines}


async def _clocks(core: Core) -> list[ClockStatus]:
    """Read all clocks, a page at a time."""
    found: list[ClockStatus] = []
    page = Page(LARGEST_LIMIT, None)
    while len(more := await core.clocks.list_page(page, pipeline_id=None)) > LARGEST_LIMIT:
        found += more[:LARGEST_LIMIT]
        page = Page(LARGEST_LIMIT, clocks.cursor_of(found[-1]))
    return found + more


handlers = (lineage, scheduler_status, dashboard, search, system_info, purge, health)
