"""A pipeline as the runner publishes it and everybody else knows it: graph, params schema, version."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.notify import Notify
from schemas.states import OnPaused

DEFAULT_QUEUE = "default"

PipelineId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of the graph: whose outputs it takes, and how often and how long it may try. Times are seconds."""

    id: str
    upstream: tuple[str, ...] = ()
    retries: int = 0
    retry_delay: float = 1.0
    timeout: float | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    doc: str = ""


class Graph(msgspec.Struct, frozen=True):
    """The blocks in an order in which each comes after its upstream."""

    blocks: tuple[Block, ...]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What one pipeline file says, or why it cannot be read; `version` is the SHA-256 of its bytes (hex)."""

    id: str
    path: str
    version: str
    graph: Graph | None = None
    params_schema: dict[str, Any] | None = None
    doc: str = ""
    max_active_runs: int | None = None
    queue: str = DEFAULT_QUEUE
    run_timeout_s: float | None = None
    error: str | None = None


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A published pipeline as `/v1/pipelines` shows it."""

    id: str
    version: str | None
    doc: str
    graph: Graph | None
    params_schema: dict[str, Any] | None
    max_active_runs: int | None
    queue: str
    run_timeout_s: float | None
    notify: Notify
    is_paused: bool
    on_paused: OnPaused
    file: str
    error: str | None
    created_at: dt.datetime
    updated_at: dt.datetime


class PipelinePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may change on a published pipeline; everything else comes from its file."""

    is_paused: bool | UnsetType = UNSET
    on_paused: OnPaused | UnsetType = UNSET
    max_active_runs: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET
    notify: Notify | UnsetType = UNSET
