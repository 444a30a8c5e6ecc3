"""What watchers are told, and the names of the Redis channels that say something is new.

A message on a channel carries ids only: whoever hears it reads Postgres. A lost message costs a moment, never a change.
"""

import datetime as dt
import uuid
from collections.abc import Iterable

import msgspec

from schemas.states import LogLevel

ID_BYTES = 16


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a run's history: a state change of the run or of a block, or a log line."""

    run_id: uuid.UUID
    seq: int
    at: dt.datetime
    kind: str
    state: str | None
    block_id: str | None
    map_index: int | None
    attempt: int
    row_count: int | None
    duration_ms: int | None
    error: msgspec.Raw
    level: LogLevel | None
    message: str | None
    fields: msgspec.Raw


class TailedChange(Change, frozen=True, kw_only=True):
    """A change, or (`kind` is `event`) an event by its id, with what a stream of many filters and resumes by."""

    xid: str
    pipeline_id: str
    schedule_id: uuid.UUID | None


class Channels(msgspec.Struct, frozen=True):
    """Channel names under one prefix."""

    prefix: str

    @property
    def wake(self) -> str:
        """The doorbell rang: runners look at the queue."""
        return f"{self.prefix}:wake"

    @property
    def changes(self) -> str:
        """These runs have new changes: gateways read them for their watchers."""
        return f"{self.prefix}:changes"

    @property
    def cancel(self) -> str:
        """These runs shall be cancelled: their owner looks."""
        return f"{self.prefix}:cancel"

    @property
    def dry_runs(self) -> str:
        """Somebody waits for a dry run: runners look."""
        return f"{self.prefix}:dry_runs"

    @property
    def callbacks(self) -> str:
        """A callback is due that no runner made itself: runners look."""
        return f"{self.prefix}:callbacks"

    @property
    def signals(self) -> str:
        """Blocks of these runs got the answer that they wait for: their owner looks."""
        return f"{self.prefix}:signals"

    @property
    def registry(self) -> str:
        """Pipelines, schedules, tokens or keys changed: gateways forget what they remember, runners look at once."""
        return f"{self.prefix}:registry"


def pack(run_ids: Iterable[uuid.UUID]) -> bytes:
    """Write run ids as the payload of a message."""
    return b"".join(run_id.bytes for run_id in run_ids)


def unpack(payload: bytes) -> list[uuid.UUID]:
    """Read the run ids of a message; a damaged one is no news."""
    if len(payload) % ID_BYTES:
        return []
    return [uuid.UUID(bytes=payload[at : at + ID_BYTES]) for at in range(0, len(payload), ID_BYTES)]
