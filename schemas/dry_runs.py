"""A dry run: a pipeline on its first rows, of which nothing is kept but the answer to whoever asked.

The gateway writes a request, a runner takes it and writes the result beside it, the gateway answers and deletes both.
"""

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.previews import MOST_ROWS
from schemas.runs import RunError
from schemas.states import BlockState, RunState

DEFAULT_ROWS = 10
MOST_ATTEMPTS = 2


class DryRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/pipelines/{id}/dry-run`; `rows` is how many of a table the next block receives."""

    variables: dict[str, Any] = {}
    event_variables: Any | UnsetType = UNSET
    rows: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = DEFAULT_ROWS


class DryBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What one block did: a table has `columns` and `rows`, all else a `value`; `row_count` is from before the cut."""

    block_id: str
    state: BlockState
    columns: list[str] | None = None
    rows: list[dict[str, Any]] | None = None
    value: Any | UnsetType = UNSET
    row_count: int | None = None
    duration_ms: int | None = None
    error: RunError | None = None


class DryResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a dry run came to, with the blocks in the order of the graph."""

    pipeline_id: str
    state: RunState
    blocks: dict[str, DryBlock] = {}
    error: RunError | None = None


class DryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A dry run that a runner has taken; `event_variables` is `null` when there is no event."""

    id: uuid.UUID
    pipeline_id: str
    variables: msgspec.Raw
    event_variables: bytes | None
    most_rows: int
    time_left_s: float


class DryProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a dry run is: `is_lost` when every runner that took it died."""

    result: msgspec.Raw
    is_taken: bool
    is_lost: bool
