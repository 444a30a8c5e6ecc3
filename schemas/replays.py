"""Replays: events that become runs again, as they did or by today's rules.

A replay is of one event, or of all that a filter finds; gateways execute those, the oldest event first.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.events import EventFilter
from schemas.pipelines import PipelineId
from schemas.runs import RunRef
from schemas.schedules import Moment
from schemas.states import Verdict

Key = Annotated[str, Meta(min_length=1, max_length=100)]
Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
PerSecond = Annotated[int, Meta(ge=1, le=1000)]


class ReplayMode(StrEnum):
    """With the variables and items of the runs that the event caused, or judged again by the rules of today."""

    AS_WAS = "as_was"
    TODAY = "today"


class ReplayState(StrEnum):
    """Where a replay stands; the last two are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class NewReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/events/{id}/replay`; `schedule_id` is an id or number, the event's own when left out."""

    mode: ReplayMode | None = None
    schedule_id: Key | int | None = None
    dry_run: bool = False


class ChosenEvents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events are replayed: the filters of the list, at least one.

    Without a `verdict` these are the accepted and the filtered ones: what was rejected may be forged.
    """

    schedule_id: Key | int | None = None
    pipeline_id: PipelineId | None = None
    source: Text | None = None
    verdict: Verdict | None = None
    reason_code: Text | None = None
    event_type: Text | None = None
    dedupe_key: Text | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    q: Text | None = None


class NewReplayOfMany(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/events/replay`; `rate_per_s` is how many runs it makes in a second, over all gateways."""

    filter: ChosenEvents
    mode: ReplayMode | None = None
    schedule_id: Key | int | None = None
    rate_per_s: PerSecond = 10
    limit: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    dry_run: bool = False


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay with its progress.

    `event_id` is the one event or `filter` says which of many, `schedule_id` is null for each event's own. Of the
    `events` that it has seen so many were `accepted`, ..., and `skipped`: those that cannot become runs this way.
    `expected` is null when there were too many to count.
    """

    id: uuid.UUID
    number: int
    requested_by: str
    event_id: uuid.UUID | None
    filter: dict[str, Any] | None
    mode: ReplayMode | None
    schedule_id: uuid.UUID | None
    rate_per_s: int
    limit: int | None
    state: ReplayState
    expected: int | None
    progress: float | None
    events: int
    accepted: int
    filtered: int
    rejected: int
    handshake: int
    skipped: int
    runs: int
    created_at: dt.datetime
    finished_at: dt.datetime | None


class PlannedReplay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay that is about to be written."""

    id: uuid.UUID
    requested_by: str
    event_id: uuid.UUID | None = None
    filter: ChosenEvents | None = None
    mode: ReplayMode | None
    schedule_id: uuid.UUID | None
    rate_per_s: int
    limit: int | None = None
    expected: int | None = None


class ReplayStep(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever takes the next step of a replay must know; `lag_s` is how long ago it was due."""

    id: uuid.UUID
    filter: ChosenEvents
    mode: ReplayMode | None
    schedule_id: uuid.UUID | None
    rate_per_s: int
    left: int | None
    cursor_id: uuid.UUID
    lag_s: float


class ReplayedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that a replay makes; `parent_id` is the one that it repeats."""

    run_id: uuid.UUID
    item: int
    variables: msgspec.Raw
    event_item: bytes | None
    parent_id: uuid.UUID | None


class OldRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that an event caused, with all that repeating it takes."""

    id: uuid.UUID
    number: int
    item: int
    pipeline_id: str
    variables: msgspec.Raw
    event_item: bytes | None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of a replay did."""

    accepted: int = 0
    filtered: int = 0
    rejected: int = 0
    handshake: int = 0
    skipped: int = 0
    runs: int = 0


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict and why."""

    verdict: Verdict
    reason_code: str | None
    reason: str | None


class ShownRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that an event caused, or (then it has no id yet) that a replay would make of it.

    Only a run of one item of several has `event_variables` of its own.
    """

    run_id: uuid.UUID | None = None
    number: int | None = None
    pipeline_id: str
    variables: msgspec.Raw
    event_variables: msgspec.Raw | UnsetType = UNSET


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A place (RFC 6901) where two values differ; a side that lacks it has no member."""

    pointer: str
    then: Any = UNSET
    now: Any = UNSET


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One item of an event, then and now."""

    item: int
    then: ShownRun | None
    now: ShownRun | None
    differences: Sequence[Difference]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay would make of an event; `verdict` is null when it cannot be replayed like this."""

    event_id: uuid.UUID
    mode: ReplayMode | None
    schedule_id: uuid.UUID
    was: Judged
    verdict: Verdict | None
    reason_code: str | None
    reason: str | None
    run_count: int
    runs: Sequence[ComparedRun]


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the replay of one event; without runs there is no `replay_id`, for nothing was written."""

    replay_id: uuid.UUID | None
    event_id: uuid.UUID
    mode: ReplayMode
    schedule_id: uuid.UUID
    verdict: Verdict
    reason_code: str | None
    reason: str | None
    runs: Sequence[RunRef]


class ReplayPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay of many would begin with; with `is_complete` false there are more than were counted."""

    count: int
    is_complete: bool
    by_verdict: Mapping[Verdict, int]
    events: Sequence[Comparison]


def as_filter(chosen: ChosenEvents) -> EventFilter:
    """Read what was chosen as a filter of events; its `schedule_id` is an id already."""
    values = {name: getattr(chosen, name) for name in ChosenEvents.__struct_fields__ if name != "schedule_id"}
    return EventFilter(
        schedule_id=None if chosen.schedule_id is None else uuid.UUID(str(chosen.schedule_id)),
        verdicts=(Verdict.ACCEPTED, Verdict.FILTERED) if chosen.verdict is None else (),
        **values,
    )
