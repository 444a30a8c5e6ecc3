"""`/api/runs`: what ran, how it is cancelled and resumed, and what its nodes wrote and returned."""

from collections.abc import AsyncIterator

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from gateway.auth import needs
from gateway.core import Core
from gateway.dialects.brokoli import wire
from gateway.dialects.brokoli.errors import finding, finding_run
from gateway.dialects.brokoli.keys import KEYS
from gateway.dialects.brokoli.summaries import CalendarDay, show_days
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.logs import LogFilter, Pages, as_file
from gateway.parameters import Parameters
from schemas.errors import Conflict, NotFound
from schemas.runs import LogLine, Resumption
from schemas.states import LogLevel, Role, RunState

DEFAULT_DAYS, MOST_DAYS = 90, 365
_encode = msgspec.json.Encoder().encode


@get("/api/runs/calendar", guards=[needs(Role.VIEWER, KEYS)])
async def calendar(request: AnyRequest, core: TheCore) -> list[CalendarDay]:
    """Count the runs of each of the last days, 90 or `days` of them, at most 365."""
    days = Parameters(request).integer("days") or DEFAULT_DAYS
    return show_days(await core.overviews.calendar(min(days, MOST_DAYS), pipeline_id=None))


@get("/api/runs/{run:str}", guards=[needs(Role.VIEWER, KEYS)])
async def get_run(run: FromPath[str], core: TheCore) -> wire.ShownRun:
    """Read a run with its nodes."""
    with finding_run():
        return wire.show_run(await core.runs.get(run))


@post("/api/runs/{run:str}/cancel", guards=[needs(Role.OPERATOR, KEYS)], status_code=200)
async def cancel(run: FromPath[str], core: TheCore, caller: TheCaller) -> dict[str, str]:
    """Cancel a run: what executes may finish, nothing else starts."""
    try:
        await core.control.cancel(run, caller)
    except (NotFound, Conflict) as error:
        raise Refused(f"run {run} not found or already completed", status=404, detail=error.message) from None
    return {"status": wire.RUN_STATUS[RunState.CANCELLED]}


@post("/api/runs/{run:str}/resume", guards=[needs(Role.OPERATOR, KEYS)], status_code=202)
async def resume(run: FromPath[str], core: TheCore, caller: TheCaller) -> wire.ShownRun:
    """Queue a run that goes on from the first node that failed; the answer is the new run."""
    with finding_run():
        old = await core.runs.row(run)
    if old.state is not RunState.FAILED:
        raise Refused(f"can only resume failed runs (current: {wire.RUN_STATUS[old.state]})")
    return wire.show_run(await core.control.resume(str(old.id), Resumption(), caller))


@get("/api/runs/{run:str}/logs", guards=[needs(Role.VIEWER, KEYS)], media_type="application/json")
async def list_logs(run: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Read the whole log of a run, or of a `node_id`, or its lines of one `level`."""
    return Stream(_as_array(await _lines(run, request, core)), media_type="application/json")


@get("/api/runs/{run:str}/logs/export", guards=[needs(Role.VIEWER, KEYS)], media_type="text/plain")
async def export_logs(run: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Download the log as a text file."""
    with finding_run():
        run_id = str(await core.runs.find(run))
    headers = {"content-disposition": f"attachment; filename=run-{run_id[:8]}-logs.txt"}
    return Stream(as_file(await _lines(run_id, request, core)), media_type="text/plain", headers=headers)


@get("/api/runs/{run:str}/nodes/{node:str}/preview", guards=[needs(Role.VIEWER, KEYS)])
async def preview(run: FromPath[str], node: FromPath[str], core: TheCore) -> Response[wire.DataPreview]:
    """Show the first fifty rows of what a node returned."""
    with finding("no preview available"):
        return Response(wire.show_preview(await core.outputs.preview(run, node, None)))


@get("/api/runs/{run:str}/nodes/{node:str}/profile", guards=[needs(Role.VIEWER, KEYS)])
async def profile(run: FromPath[str], node: FromPath[str], core: TheCore) -> Response[wire.NodeProfile]:
    """Describe what a node returned, and how it differs from the run before."""
    with finding("profile not found"):
        return Response(wire.show_profile(await core.outputs.profile(run, node, None)))


async def _lines(run: str, request: AnyRequest, core: Core) -> Pages:
    """Find the lines that are asked for: here a level means that one only, not the more severe ones too."""
    asked = Parameters(request)
    level = asked.choice("level", LogLevel)
    with finding_run():
        pages = await core.logs.pages(run, LogFilter(block_id=asked.text("node_id"), level=level))
    return pages if level is None else _only(level, pages)


async def _only(level: LogLevel, pages: Pages) -> AsyncIterator[list[LogLine]]:
    async for lines in pages:
        yield [line for line in lines if line.level is level]


async def _as_array(pages: Pages) -> AsyncIterator[bytes]:
    mark = b"["
    async for lines in pages:
        for line in lines:
            yield mark + _encode(wire.show_line(line))
            mark = b","
    yield b"[]" if mark == b"[" else b"]"


handlers = (calendar, get_run, cancel, resume, list_logs, export_logs, preview, profile)
