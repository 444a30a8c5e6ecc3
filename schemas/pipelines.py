"""A pipeline as the runner publishes it and everybody else knows it: graph, params schema, version."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.notify import Notify
from schemas.states import CallbackOn, OnPaused, TriggerRule

DEFAULT_QUEUE = "default"

PipelineId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=10_000)]


class Executable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function of the author under its id, and how often and how long it may try. Times are seconds."""

    id: str
    retries: int = 0
    retry_delay: float = 1.0
    timeout: float | None = None
    doc: str = ""


class Block(Executable, frozen=True, kw_only=True, omit_defaults=True):
    """One node of the graph.

    It starts as `trigger_rule` says of its `upstream`, and takes the outputs of those that are not in `after`, item by
    item of the one named by `map`. `queue` is None where the pipeline's own counts; `reads` and `writes` name datasets.
    """

    upstream: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    map: str | None = None
    queue: str | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The blocks whose outputs it takes."""
        return tuple(name for name in self.upstream if name not in self.after) if self.after else self.upstream


class Callback(Executable, frozen=True, kw_only=True, omit_defaults=True):
    """A function that is called when a block, or without one the run, has ended in this way."""

    on: CallbackOn
    block: str | None = None


class Graph(msgspec.Struct, frozen=True, omit_defaults=True):
    """The blocks in an order in which each comes after its upstream, and the callbacks of blocks and run."""

    blocks: tuple[Block, ...]
    callbacks: tuple[Callback, ...] = ()


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

    @property
    def first_queue(self) -> str:
        """The queue in which its runs begin: that of the first blocks if they agree, else the pipeline's."""
        blocks = self.graph.blocks if self.graph else ()
        first = {block.queue or self.queue for block in blocks if not block.upstream}
        return first.pop() if len(first) == 1 else self.queue


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A published pipeline as it is stored; `masked()` before `/v1/pipelines` shows it.

    `name` and `description` are what users call it, if they do; `doc` is what its file says.
    """

    id: str
    name: str | None = None
    description: str | None = None
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

    def masked(self) -> "Pipeline":
        return msgspec.structs.replace(self, notify=self.notify.masked())


class PipelineFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which pipelines a list shows: `pattern` is for SQL's ILIKE on the id, broken is one whose file has an error."""

    pattern: str | None = None
    is_paused: bool | None = None
    is_broken: bool | None = None


class PipelinePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may change on a published pipeline; everything else comes from its file."""

    name: Name | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    is_paused: bool | UnsetType = UNSET
    on_paused: OnPaused | UnsetType = UNSET
    max_active_runs: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET
    notify: Notify | UnsetType = UNSET
