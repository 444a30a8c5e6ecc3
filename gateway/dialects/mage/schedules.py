"""Mage's pipeline schedules, which its pages call triggers: list, read, make, change, delete."""

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath

from gateway.auth import needs
from gateway.bodies import read_json
from gateway.core import Core
from gateway.dialects.mage import queries, timing
from gateway.dialects.mage.errors import invalid
from gateway.dialects.mage.keys import KEYS
from gateway.dialects.mage.wire import Metadata
from gateway.handling import AnyRequest, TheCaller, TheCore
from gateway.parameters import Parameters
from schemas.keys import Caller
from schemas.schedules import NewToken, Schedule, ScheduleFilter
from schemas.states import Role, ScheduleKind

_LABEL = "mage"


class Listed(msgspec.Struct, frozen=True):
    """A part of the schedules."""

    pipeline_schedules: list[timing.PipelineSchedule]
    metadata: Metadata


class Shown(msgspec.Struct, frozen=True):
    """One schedule."""

    pipeline_schedule: timing.PipelineSchedule
    metadata: None = None


@get("/api/pipeline_schedules", guards=[needs(Role.VIEWER, KEYS)])
async def list_schedules(request: AnyRequest, core: TheCore) -> Listed:
    """List schedules, newest first; a token is never shown."""
    asked = Parameters(request)
    return await _list(asked, core, await queries.schedule_filter(asked, core))


@get("/api/pipelines/{uuid:str}/pipeline_schedules", guards=[needs(Role.VIEWER, KEYS)])
async def list_schedules_of_pipeline(uuid: FromPath[str], request: AnyRequest, core: TheCore) -> Listed:
    """List the schedules of a pipeline."""
    asked = Parameters(request)
    return await _list(asked, core, await queries.schedule_filter(asked, core, uuid))


@post("/api/pipelines/{uuid:str}/pipeline_schedules", guards=[needs(Role.EDITOR, KEYS)], status_code=200)
async def create_schedule(uuid: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Shown:
    """Make a schedule; of type api its token is shown in this answer only."""
    given = (await read_json(request, timing.Given, limit=core.settings.body_limit)).pipeline_schedule
    await core.catalog.get_pipeline(uuid)
    schedule = await core.catalog.create_schedule(timing.new_schedule(uuid, given), caller)
    token = None
    if schedule.kind is ScheduleKind.API:
        token = (await core.catalog.create_token(str(schedule.id), NewToken(label=_LABEL), caller)).token
    return Shown(timing.show_schedule(schedule, token))


@get("/api/pipeline_schedules/{schedule:str}", guards=[needs(Role.VIEWER, KEYS)])
async def get_schedule(schedule: FromPath[str], core: TheCore) -> Shown:
    """Read a schedule; its token is never shown."""
    return Shown(timing.show_schedule(await core.catalog.get_schedule(schedule)))


@put("/api/pipeline_schedules/{schedule:str}", guards=[needs(Role.EDITOR, KEYS)])
async def change_schedule(schedule: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Shown:
    """Change what the body names; `rotate_token` ends all its tokens, and shows a new one in this answer only."""
    given = (await read_json(request, timing.Given, limit=core.settings.body_limit)).pipeline_schedule
    old = await core.catalog.get_schedule(schedule)
    if given.schedule_type not in (None, old.kind.value):
        raise invalid("schedule_type: it cannot be changed; make another schedule.")
    changed = await core.catalog.patch_schedule(str(old.id), timing.patch_of(old, given), caller)
    token = await _rotate(core, old, caller) if given.rotate_token else None
    return Shown(timing.show_schedule(changed, token))


@delete("/api/pipeline_schedules/{schedule:str}", guards=[needs(Role.EDITOR, KEYS)], status_code=200)
async def delete_schedule(schedule: FromPath[str], core: TheCore, caller: TheCaller) -> Shown:
    """Delete a schedule: its tokens stop working at once, its runs stay."""
    found = await core.catalog.get_schedule(schedule)
    await core.catalog.delete_schedule(str(found.id), caller)
    return Shown(timing.show_schedule(found))


async def _list(asked: Parameters, core: Core, which: ScheduleFilter) -> Listed:
    wanted = queries.span(asked)
    found = await core.catalog.span_schedules(wanted, which)
    shown = [timing.show_schedule(schedule) for schedule in found.items]
    return Listed(shown, queries.metadata(wanted, found))


async def _rotate(core: Core, schedule: Schedule, caller: Caller) -> str:
    """In Mage a schedule has one token, and whoever rotates it wants the old one dead."""
    key = str(schedule.id)
    old = [token for token in await core.catalog.list_tokens(key) if token.revoked_at is None]
    new = await core.catalog.create_token(key, NewToken(label=_LABEL), caller)
    for token in old:
        await core.catalog.revoke_token(token.id, caller)
    return new.token


handlers = (
    list_schedules,
    list_schedules_of_pipeline,
    create_schedule,
    get_schedule,
    change_schedule,
    delete_schedule,
)
