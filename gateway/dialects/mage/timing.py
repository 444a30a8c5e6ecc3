"""Mage's pipeline schedules, made out of our schedules, and what may be said of them out of Mage's."""

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from gateway.dialects.mage.errors import invalid
from gateway.dialects.mage.wire import HIDDEN_TOKEN, moment, moment_or_none
from gateway.moving.mage import map_trigger
from schemas.schedules import NewSchedule, Schedule, SchedulePatch
from schemas.states import Overlap, ScheduleKind

_NO_TOKENS = (None, "", HIDDEN_TOKEN)
_MAPPED = ("schedule_interval", "start_time", "status", "variables", "sla", "settings")
Made = TypeVar("Made", NewSchedule, SchedulePatch)


class PipelineSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule; its `token` is itself in the one answer that makes it, and a placeholder everywhere else."""

    created_at: str
    description: None = None
    global_data_product_uuid: None = None
    id: int
    last_enabled_at: str | None
    name: str
    pipeline_uuid: str
    repo_path: None = None
    schedule_interval: str | None
    schedule_type: str
    settings: dict[str, Any] | None
    sla: int | None
    start_time: str | None
    status: str
    token: str | None
    updated_at: str
    variables: msgspec.Raw
    event_matchers: list[Any] = []
    next_pipeline_run_date: str | None
    tags: list[str] = []


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True):
    """What POST and PUT may say of a schedule; all else is ignored, so that a client may send back what it read."""

    name: str | UnsetType = UNSET
    schedule_type: Literal["api", "time"] | None = None
    schedule_interval: str | UnsetType | None = UNSET
    start_time: str | UnsetType | None = UNSET
    status: Literal["active", "inactive"] | UnsetType = UNSET
    variables: dict[str, Any] | UnsetType | None = UNSET
    sla: int | UnsetType | None = UNSET
    settings: dict[str, Any] | UnsetType | None = UNSET
    event_matchers: list[Any] | None = None
    token: str | None = None
    rotate_token: bool = False


class Given(msgspec.Struct, frozen=True):
    """The body of POST and PUT."""

    pipeline_schedule: ScheduleChange


def show_schedule(schedule: Schedule, token: str | None = None) -> PipelineSchedule:
    """Show a schedule, with its token when it was made just now."""
    is_api = schedule.kind is ScheduleKind.API
    return PipelineSchedule(
        created_at=moment(schedule.created_at),
        id=schedule.number,
        last_enabled_at=None if schedule.is_paused else moment(schedule.updated_at),
        name=schedule.name,
        pipeline_uuid=schedule.pipeline_id,
        schedule_interval=schedule.cron,
        schedule_type=schedule.kind.value,
        settings=_settings(schedule) or None,
        sla=schedule.sla_s,
        start_time=moment_or_none(schedule.start_at),
        status="inactive" if schedule.is_paused else "active",
        token=(token or HIDDEN_TOKEN) if is_api else None,
        updated_at=moment(schedule.updated_at),
        variables=schedule.variables,
        next_pipeline_run_date=None if schedule.is_paused else moment_or_none(schedule.next_fire_at),
    )


def new_schedule(pipeline_id: str, given: ScheduleChange) -> NewSchedule:
    """Read a new schedule, which is inactive unless it says otherwise; raises Invalid."""
    if given.name is UNSET or not given.name:
        raise invalid("name: it is missing.")
    kind = ScheduleKind(given.schedule_type or ScheduleKind.API)
    fields = {"is_paused": True} | _fields(given, kind)
    return _convert({"pipeline_id": pipeline_id, "kind": kind, **fields}, NewSchedule)


def patch_of(old: Schedule, given: ScheduleChange) -> SchedulePatch:
    """Read what shall change; what stays as it is is left out, for a schedule of kind api has no clock to set."""
    fields = _fields(given, old.kind)
    if old.kind is ScheduleKind.TIME and fields.get("cron", UNSET) is None and old.every_s is not None:
        del fields["cron"]  # an interval, which Mage has no word for
    return _convert(fields, SchedulePatch)


def _fields(given: ScheduleChange, kind: ScheduleKind) -> dict[str, Any]:
    if given.token not in _NO_TOKENS:
        raise invalid("token: `rotate_token` makes a new one, and `penstock import mage` takes old ones.")
    if given.event_matchers:
        raise invalid("event_matchers: there are none here; a schedule of type api has a filter.")
    said = {name: value for name in _MAPPED if (value := getattr(given, name)) is not UNSET}
    mapped = map_trigger(said, is_timed=kind is ScheduleKind.TIME)
    if wrong := (*mapped.obstacles, *mapped.left_out):
        raise invalid(f"{'; '.join(wrong)}.")
    return mapped.fields if given.name is UNSET else {"name": given.name, **mapped.fields}


def _convert(fields: dict[str, Any], kind: type[Made]) -> Made:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


def _settings(schedule: Schedule) -> dict[str, Any]:
    found = {
        "skip_if_previous_running": schedule.overlap is Overlap.SKIP,
        "pipeline_run_limit": schedule.max_active_runs,
        "timeout": schedule.run_timeout_s,
    }
    return {name: value for name, value in found.items() if value}
