"""Deleting what is old: what a purge would delete, and how far one got."""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

Days = Annotated[int, Meta(ge=1, le=36_500)]


class Phase(StrEnum):
    """What a purge does now; the phases come in this order."""

    RUNS = "runs"
    PARTITIONS = "partitions"
    EVENTS = "events"
    CHANGES = "changes"
    LOGS = "logs"
    DONE = "done"


class NewPurge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/purge`: runs that ended more than so many days ago, and what is only theirs."""

    days: Days = 30
    dry_run: bool = False


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge would delete now. Counts from 100,000 on are estimates, `bytes` is a share of the tables."""

    days: int
    older_than: dt.datetime
    runs: int
    events: int
    changes: int
    log_lines: int
    outputs: int
    bytes: int


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """A purge and what it has deleted so far; rows of dropped partitions are counted by Postgres' estimate."""

    id: uuid.UUID
    days: int
    older_than: dt.datetime
    requested_by: str
    is_automatic: bool
    phase: Phase
    progress: float
    runs: int
    events: int
    changes: int
    log_lines: int
    outputs: int
    partitions: int
    created_at: dt.datetime
    finished_at: dt.datetime | None


class PurgeState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a purge stands, for whoever moves it on."""

    id: uuid.UUID
    older_than: dt.datetime
    phase: Phase
    cursor_id: uuid.UUID
    cursor_seq: int


class OldPartition(msgspec.Struct, frozen=True, kw_only=True):
    """A partition whose whole day lies before the limit; ids in it are at least `first_id` and less than `end_id`."""

    name: str
    parent: str
    first_id: uuid.UUID
    end_id: uuid.UUID
    rows: int
