"""What many runs say together: counts per day, dashboard, lineage, search results, the state of the installation."""

import datetime as dt
import uuid
from typing import Literal

import msgspec

from schemas.states import Origin, RunState


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that were made on one day of UTC, by the state that they have now."""

    date: dt.date
    success: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    queued: int = 0
    total: int = 0


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """The same for one hour, as it is counted."""

    hour: dt.datetime
    success: int
    failed: int
    cancelled: int
    running: int
    queued: int


class RunTotals(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs of a pipeline are in each state."""

    pipeline_id: str
    success: int
    failed: int
    cancelled: int
    running: int
    queued: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A run that failed, and why: `error` is a RunError."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    created_at: dt.datetime
    finished_at: dt.datetime
    error: msgspec.Raw


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """How often a pipeline failed."""

    pipeline_id: str
    failed: int


class NextFire(msgspec.Struct, frozen=True, kw_only=True):
    """When a time schedule fires next: `slot` is the moment that it names, `due_at` adds its jitter."""

    schedule_id: uuid.UUID
    name: str
    pipeline_id: str
    slot: dt.datetime
    due_at: dt.datetime
    is_paused: bool


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs are active, and since when the oldest of them waits."""

    queued: int
    running: int
    oldest_queued_at: dt.datetime | None


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """The state of affairs in one answer; `success_rate` is of the runs of 24 hours that succeeded or failed."""

    running: int
    queued: int
    oldest_queued_at: dt.datetime | None
    runs_today: int
    runs_yesterday: int
    success_rate: float | None
    rejected_today: int
    last_failures: list[Failure]
    trend: list[Day]
    top_failing: list[Failing]
    next_fires: list[NextFire]


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing of a lineage; `id` begins with its type, and which of the other members it has depends on that."""

    id: str
    type: Literal["pipeline", "block", "dataset", "schedule", "event", "run"]
    name: str
    pipeline_id: str | None = None
    state: RunState | None = None
    origin: Origin | None = None
    created_at: dt.datetime | None = None


class Edge(msgspec.Struct, frozen=True, order=True, rename={"source": "from", "target": "to"}):
    """An arrow of a lineage, in the direction in which work or data goes."""

    source: str
    target: str
    type: Literal["starts", "runs", "reads", "writes", "triggers", "resumes", "reruns", "replays"]


class Lineage(msgspec.Struct, frozen=True):
    """What leads to what; `is_complete` is false when there was too much to show all."""

    nodes: list[Node]
    edges: list[Edge]
    is_complete: bool = True


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, as far as lineage shows it."""

    id: uuid.UUID
    name: str
    pipeline_id: str


class RelatedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as far as lineage shows it."""

    id: uuid.UUID
    number: int
    pipeline_id: str
    state: RunState
    origin: Origin
    parent_id: uuid.UUID | None
    event_id: uuid.UUID | None
    created_at: dt.datetime


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a search found; `url` is where the API shows it."""

    type: Literal["pipeline", "schedule", "run", "event"]
    id: str
    name: str
    description: str
    url: str


class TableSize(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its indexes and partitions; `rows` is Postgres' own estimate."""

    name: str
    rows: int
    bytes: int


class RunnerState(msgspec.Struct, frozen=True, kw_only=True):
    """A runner that is registered, and when it was last heard of."""

    id: uuid.UUID
    name: str
    started_at: dt.datetime
    heartbeat_age_s: float
    is_alive: bool
    active_runs: int


class System(msgspec.Struct, frozen=True, kw_only=True):
    """The installation; `started_at` and `doorbell` are those of the gateway that answers."""

    version: str
    started_at: dt.datetime
    database_bytes: int
    tables: list[TableSize]
    pipelines: int
    active_runs: int
    queued_runs: int
    oldest_queued_age_s: float | None
    runners: list[RunnerState]
    doorbell: Literal["up", "down"]
