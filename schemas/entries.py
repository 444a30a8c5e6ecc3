"""The lines of the ledger: what the owner of a run tells the database. Field order is the order of `record`'s columns.

Moments (`at`, `began_at`, `ended_at`) are seconds on the writer's monotonic clock, and `record` is told how far the
database's clock is ahead of it.
"""

import uuid

import msgspec

from schemas.outputs import UNMAPPED, Format
from schemas.states import BlockState, LogLevel, RunState


class RunEntry(msgspec.Struct):
    """How far a run is: `seq` of its newest change or log line, and its terminal state once it has one."""

    run_id: uuid.UUID
    epoch: int
    seq: int
    state: RunState | None = None
    error: bytes | None = None


class BlockEntry(msgspec.Struct):
    """Where a block of a run stands."""

    run_id: uuid.UUID
    block_id: str
    state: BlockState
    attempt: int
    row_count: int | None = None
    duration_ms: int | None = None
    began_at: float | None = None
    ended_at: float | None = None
    error: bytes | None = None
    map_index: int = UNMAPPED
    queue_ms: int | None = None


class OutputEntry(msgspec.Struct):
    """What a block returned: its bytes, or the key of the object that has them."""

    run_id: uuid.UUID
    block_id: str
    map_index: int
    format: Format
    data: bytes | None
    object: str | None
    size: int
    preview: bytes | None = None


class ChangeEntry(msgspec.Struct):
    """One change for the watchers; `kind` is `run` or `block`."""

    run_id: uuid.UUID
    seq: int
    at: float
    kind: str
    state: RunState | BlockState
    block_id: str | None = None
    attempt: int = 0
    row_count: int | None = None
    duration_ms: int | None = None
    error: bytes | None = None
    map_index: int | None = None
    queue_ms: int | None = None


class LogEntry(msgspec.Struct):
    """One line of a block's log; `fields` is a JSON object."""

    run_id: uuid.UUID
    seq: int
    at: float
    block_id: str | None
    attempt: int
    level: LogLevel
    message: str
    fields: bytes
    map_index: int | None = None
