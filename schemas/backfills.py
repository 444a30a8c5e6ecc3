"""Backfills: a pipeline run once for each logical date of a range."""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.schedules import Positive, TimeZone

MOST_DATES = 100_000
KEY_LIMIT = 180


class BackfillState(StrEnum):
    """Where a backfill stands; `completed` when each of its runs has ended, however that was."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class NewBackfill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/pipelines/{id}/backfills`.

    `start` and `end` are dates in the time zone, or RFC 3339 times; both belong to the range. `every` is hour, day,
    week (Mondays), month (the first), a cron expression, or schedule: then `schedule_id` is needed. A schedule also
    gives the time zone and the variables that are left out. `date_variable` names a variable that gets the date of each
    run, as YYYY-MM-DD in the time zone. The same request is the same backfill, unless its `key` is another.
    """

    start: Annotated[str, Meta(max_length=64)]
    end: Annotated[str, Meta(max_length=64)]
    every: Annotated[str, Meta(min_length=1, max_length=200)] = "day"
    schedule_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    timezone: TimeZone | None = None
    variables: dict[str, Any] = {}
    date_variable: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    max_active_runs: Positive = 1
    key: Annotated[str, Meta(min_length=1, max_length=KEY_LIMIT)] | None = None
    dry_run: bool = False


class BackfillPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/backfills/{id}`."""

    max_active_runs: Positive


class BackfillPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill would do; `dates` are the first ones."""

    count: int
    first: dt.datetime
    last: dt.datetime
    dates: list[dt.datetime]


class Backfill(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill with its progress; `start` and `end` are its first and last logical date."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    schedule_id: uuid.UUID | None
    key: str | None
    start: dt.datetime
    end: dt.datetime
    every: str
    timezone: str
    variables: msgspec.Raw
    max_active_runs: int
    state: BackfillState
    total: int
    queued: int
    running: int
    success: int
    failed: int
    cancelled: int
    created_at: dt.datetime
    cancelled_at: dt.datetime | None

    @property
    def ended(self) -> int:
        """How many of its runs have ended."""
        return self.total - self.queued - self.running


class PlannedBackfill(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill that is about to be written, with the ids and logical dates of its runs, in order."""

    id: uuid.UUID
    pipeline_id: str
    schedule_id: uuid.UUID | None
    key: str
    every: str
    timezone: str
    variables: bytes
    date_variable: str | None
    max_active_runs: int
    run_ids: list[uuid.UUID]
    dates: list[dt.datetime]
