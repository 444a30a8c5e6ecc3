"""One execution of a pipeline, and of each of its blocks, as they are stored and as `/v1/runs` shows them.

Members of type `msgspec.Raw` are JSON that passes through unparsed; an `error` there is `null` or a RunError.
"""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.notify import Url
from schemas.outputs import Format, Output
from schemas.payload import Kind
from schemas.states import BlockState, LogLevel, Origin, RunState

RUN_KEY_LIMIT = 250
Note = Annotated[str, Meta(max_length=10_000)]


class RunError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a run or a block failed; `type` is the name of the exception or one of our own reasons."""

    type: str
    message: str
    block_id: str | None = None
    traceback: str | None = None


class BlockRun(msgspec.Struct, frozen=True, kw_only=True):
    """One block of one run; a mapped block comes once for itself and once for each item, with its `map_index`."""

    block_id: str
    map_index: int | None
    state: BlockState
    attempt: int
    row_count: int | None
    queue_ms: int | None
    duration_ms: int | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: msgspec.Raw


class BlockAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a block run; `queue_ms` is how long it was ready before a block host took it."""

    attempt: int
    state: BlockState
    started_at: dt.datetime
    finished_at: dt.datetime | None
    row_count: int | None
    queue_ms: int | None
    duration_ms: int | None
    error: msgspec.Raw


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the API shows it."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    schedule_id: uuid.UUID | None
    event_id: uuid.UUID | None
    state: RunState
    variables: msgspec.Raw
    event_variables: msgspec.Raw
    logical_date: dt.datetime | None
    run_key: str | None
    note: str | None
    origin: Origin
    parent_id: uuid.UUID | None
    resumed_from: uuid.UUID | None
    backfill_id: uuid.UUID | None
    replay_id: uuid.UUID | None
    queue: str
    passed_sla: bool
    callback_url: str | None
    attempt: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: msgspec.Raw
    block_runs: tuple[BlockRun, ...] = ()


class RunRef(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the answer to whoever caused it."""

    id: uuid.UUID
    number: int
    state: RunState
    url: str
    stream_url: str


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/pipelines/{id}/runs`; `triggered_by` is the id of the run that asks for this one."""

    variables: dict[str, Any] = {}
    logical_date: Annotated[dt.datetime, Meta(tz=True)] | None = None
    run_key: Annotated[str, Meta(min_length=1, max_length=RUN_KEY_LIMIT)] | None = None
    note: Note | None = None
    callback_url: Url | None = None
    triggered_by: uuid.UUID | None = None


class Resumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/runs/{id}/resume`; `from_block` and all after it are done again in any case."""

    note: Note | None = None
    from_block: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class Repetition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/runs/{id}/rerun`: `variables` replace those of the old run, all of them."""

    variables: dict[str, Any] | UnsetType = UNSET
    note: Note | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/runs/{id}/mark`: what a person says became of a run."""

    state: Literal["success", "failed"]
    note: Note | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a list shows; `q` is a text in the event's bytes, the note or the run_key, `states` any of several.

    Of a range of time `..._after` belongs to it and `..._before` does not; a run is `dated` by its logical date or
    else by when it was made, and `changed` when it was made, began, ended or was marked. Patterns are those of SQL's
    ILIKE. `origins` and `name_pattern` look at the first of the runs that repeat one another, and `is_newest` leaves
    out those that another one repeats.
    """

    pipeline_id: str | None = None
    pipeline_ids: tuple[str, ...] = ()
    pipeline_pattern: str | None = None
    schedule_id: uuid.UUID | None = None
    event_id: uuid.UUID | None = None
    state: RunState | None = None
    states: tuple[RunState, ...] = ()
    origin: Origin | None = None
    parent_id: uuid.UUID | None = None
    backfill_id: uuid.UUID | None = None
    replay_id: uuid.UUID | None = None
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None
    started_after: dt.datetime | None = None
    started_before: dt.datetime | None = None
    finished_after: dt.datetime | None = None
    finished_before: dt.datetime | None = None
    logical_date_after: dt.datetime | None = None
    logical_date_before: dt.datetime | None = None
    dated_after: dt.datetime | None = None
    dated_before: dt.datetime | None = None
    changed_after: dt.datetime | None = None
    changed_before: dt.datetime | None = None
    origins: tuple[Origin, ...] = ()
    name_pattern: str | None = None
    is_newest: bool = False
    q: str | None = None


class RunOrder(StrEnum):
    """What a list of runs can be sorted by; `key` is the run_key, `date` the logical date or else when it was made."""

    CREATED = "created"
    STARTED = "started"
    FINISHED = "finished"
    CHANGED = "changed"
    DURATION = "duration"
    LOGICAL_DATE = "logical_date"
    DATE = "date"
    STATE = "state"
    PIPELINE = "pipeline"
    KEY = "key"


class Sorting(msgspec.Struct, frozen=True):
    """One criterion of an order; runs that have no such value come last."""

    by: RunOrder
    is_descending: bool = False


class RunName(msgspec.Struct, frozen=True, kw_only=True):
    """What other products know a run by: the key, or else the id, of the first of those that it repeats."""

    id: uuid.UUID
    first_id: uuid.UUID
    name: str
    origin: Origin


class NamedRun(msgspec.Struct, frozen=True):
    """A run under the name of the first of those that it repeats."""

    run: Run
    name: RunName


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a block wrote: by `run.log` (then with fields) or on stdout or stderr."""

    seq: int
    at: dt.datetime
    run_id: uuid.UUID
    block_id: str | None
    map_index: int | None = None
    attempt: int
    level: LogLevel
    message: str
    fields: msgspec.Raw


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as one row, with its event's body unless that is larger than was asked for."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    version: str | None
    schedule_id: uuid.UUID | None
    event_id: uuid.UUID | None
    state: RunState
    variables: msgspec.Raw
    logical_date: dt.datetime | None
    run_key: str | None
    note: str | None
    origin: Origin
    parent_id: uuid.UUID | None
    backfill_id: uuid.UUID | None
    replay_id: uuid.UUID | None
    queue: str
    passed_sla: bool
    callback_url: str | None
    attempt: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: msgspec.Raw
    event_kind: Kind | None
    event_content_type: str | None
    event_size: int | None
    event_sha256: str | None
    event_body: bytes | None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A run that this runner now owns, with all that executing it takes."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    schedule_id: uuid.UUID | None
    event_id: uuid.UUID | None
    variables: msgspec.Raw
    logical_date: dt.datetime | None
    origin: Origin
    parent_id: uuid.UUID | None
    queue: str
    attempt: int
    epoch: int
    seq: int
    wants_callback: bool
    is_limited: bool
    run_timeout_s: float | None
    time_left_s: float | None
    event_kind: Kind | None
    event_content_type: str | None
    event_body: bytes | None
    event_object: str | None = None
    event_size: int | None = None
    event_sha256: str | None = None


class BegunBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Where an earlier owner of a run left a block; one that succeeded comes with its output."""

    block_id: str
    map_index: int
    state: BlockState
    attempt: int
    error: msgspec.Raw
    format: Format | None
    data: bytes | None
    object: str | None
    size: int | None

    @property
    def output(self) -> Output | None:
        """What it returned, if it succeeded."""
        return None if self.format is None else Output(self.format, self.data, self.object, None, self.size or 0)

    @property
    def failure(self) -> RunError | None:
        """Why it failed."""
        return msgspec.json.decode(self.error, type=RunError | None)
