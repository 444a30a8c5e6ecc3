"""Mage's pipeline runs for those who have a key: list, read, start, cancel, retry."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, delete, get, post, put
from litestar.params import FromPath

from gateway.arrivals import read_arrival
from gateway.auth import needs
from gateway.bodies import read_body, read_json
from gateway.core import Core
from gateway.dialects.mage import queries, wire
from gateway.dialects.mage.errors import invalid
from gateway.dialects.mage.keys import KEYS
from gateway.dialects.mage.naming import names_of
from gateway.dialects.mage.triggers import triggered
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.errors import Conflict
from schemas.keys import Caller
from schemas.runs import Repetition, Resumption, Run, RunFilter
from schemas.states import Role, RunState

_CANCELLED, _RETRY = "cancelled", "retry_blocks"
_NO_TOKEN = "-"  # noqa: S105 - the caller's key stands in its place


class Listed(msgspec.Struct, frozen=True):
    """A part of the runs."""

    pipeline_runs: list[wire.DetailedRun]
    metadata: wire.Metadata


class Shown(msgspec.Struct, frozen=True):
    """One run."""

    pipeline_run: wire.PipelineRun
    metadata: None = None


@get("/api/pipeline_schedules/{schedule:str}/pipeline_runs", guards=[needs(Role.VIEWER, KEYS)])
async def list_runs_of_schedule(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Listed:
    """List the runs of a schedule, newest first."""
    asked = Parameters(request)
    return await _list(asked, core, await queries.run_filter(asked, core, schedule))


@get("/api/pipeline_runs", guards=[needs(Role.VIEWER, KEYS)])
async def list_runs(request: AnyRequest, core: TheCore) -> Listed:
    """List the runs of all schedules, newest first."""
    asked = Parameters(request)
    return await _list(asked, core, await queries.run_filter(asked, core))


@post("/api/pipeline_schedules/{schedule:str}/pipeline_runs", guards=[needs(Role.OPERATOR, KEYS)], status_code=200)
async def create_run(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Start a schedule with a key instead of its token."""
    arrival = read_arrival(request, core, schedule, _NO_TOKEN, unwrap=wire.unwrap_create)

    async def read(limit: int) -> bytes:
        return wire.without_key(await read_body(request, limit))

    outcome = await core.ingest.deliver_with_key(schedule, msgspec.structs.replace(arrival, read_body=read))
    return await triggered(core, outcome)


@get("/api/pipeline_runs/{run:str}", guards=[needs(Role.VIEWER, KEYS)])
async def get_run(run: FromPath[str], core: TheCore) -> Shown:
    """Read a run with all its blocks."""
    found = await core.runs.get(run)
    return Shown(wire.show_detailed(found, found.block_runs, await names_of(core, [found])))


@put("/api/pipeline_runs/{run:str}", guards=[needs(Role.OPERATOR, KEYS)])
async def change_run(run: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Shown:
    """Cancel a run, or retry it: the answer to a retry is the new run."""
    asked = (await read_json(request, wire.ChangedRun, limit=core.settings.body_limit)).pipeline_run
    changed = await _change(core, run, asked, caller)
    return Shown(wire.show_run(changed, await names_of(core, [changed])))


@delete("/api/pipeline_runs/{run:str}", guards=[needs(Role.EDITOR, KEYS)], status_code=200)
async def delete_run(run: FromPath[str], core: TheCore, caller: TheCaller) -> Shown:
    """Delete a run with its blocks, and all that retried it; one that executes must be cancelled first."""
    found = await core.runs.get(run)
    names = await names_of(core, [found])
    await core.control.delete((await core.runs.name(found)).name, caller)
    return Shown(wire.show_run(found, names))


async def _change(core: Core, run: str, asked: wire.RunChange, caller: Caller) -> Run:
    if asked.pipeline_run_action == _RETRY:
        return await _retry(core, run, asked.from_block_uuid, caller)
    if asked.pipeline_run_action is not None:
        raise invalid(f"pipeline_run_action: it is {_RETRY}.")
    if asked.status != _CANCELLED:
        raise invalid(f"pipeline_run: it takes status {_CANCELLED}, or pipeline_run_action {_RETRY}.")
    try:
        return await core.control.cancel(run, caller)
    except Conflict:  # it has ended: in Mage nothing happens then
        return await core.runs.get(run)


async def _retry(core: Core, run: str, block_id: str | None, caller: Caller) -> Run:
    if block_id is None and (await core.runs.row(run)).state is RunState.SUCCESS:
        return await core.control.rerun(run, Repetition(), caller)
    return await core.control.resume(run, Resumption(from_block=block_id), caller)


async def _list(asked: Parameters, core: Core, which: RunFilter) -> Listed:
    wanted = queries.span(asked)
    found = await core.runs.list_span(wanted, which, oldest_first=queries.is_oldest_first(asked))
    return Listed(await _detail(core, found.items), queries.metadata(wanted, found))


async def _detail(core: Core, found: Sequence[Run]) -> list[wire.DetailedRun]:
    begun: Any = await core.runs.begun_blocks([run.id for run in found]) if found else {}
    names = await names_of(core, found)
    return [wire.show_detailed(run, begun.get(run.id, ()), names) for run in found]


handlers = (list_runs_of_schedule, list_runs, create_run, get_run, change_run, delete_run)
