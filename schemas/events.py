"""One delivery: what the gateway writes down of it, and what `/v1/events` shows."""

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from typing import Literal

import msgspec

from schemas.payload import Kind
from schemas.states import Origin, RunState, Verdict

DEDUPE_KEY_LIMIT = 250
SAME_BODY = "same_body"  # why a duplicate has no body of its own


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that one item of a split delivery is to become; `dedupe_key` makes the item unique in its schedule."""

    run_id: uuid.UUID
    item: int
    dedupe_key: str | None
    variables: msgspec.Raw
    event_item: bytes


class Delivery(msgspec.Struct, kw_only=True):
    """A delivery on its way into the database.

    It becomes one run with a `run_id`, one for each of its `items` when it is split, and else only an event. A body
    that lies in the object store is named by `object`, and `body` is empty. `event_item` is the JSON of that one run's
    `event_variables` when they are only a part of the body.
    """

    event_id: uuid.UUID
    schedule_id: uuid.UUID
    source: str
    verdict: Verdict
    reason_code: str | None
    reason: str | None
    event_type: str | None
    dedupe_key: str | None
    content_type: str
    kind: Kind
    headers: bytes
    query: str
    body: bytes
    size: int
    sha256: bytes
    timings: bytes
    observed: str | None
    rules_id: uuid.UUID | None
    run_id: uuid.UUID | None
    pipeline_id: str
    variables: msgspec.Raw
    queue: str
    event_item: bytes | None = None
    items: tuple[PlannedRun, ...] | None = None
    object: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What became of a delivery: `event_id` is the first event's when this one is a duplicate of it.

    `differs` says that the first one had another body. `numbers` are those of the new runs, by their ids.
    """

    event_id: uuid.UUID
    is_duplicate: bool
    differs: bool
    numbers: dict[uuid.UUID, int]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as `/v1/events` shows it.

    `deliveries` counts how often it came, `conflicts` how often with another body. `timings` are microseconds of each
    check, `observed` is what the mode `strict` would have refused it for, `size` is of the body as it came.
    """

    id: uuid.UUID
    schedule_id: uuid.UUID
    source: str
    verdict: Verdict
    reason_code: str | None
    reason: str | None
    event_type: str | None
    dedupe_key: str | None
    content_type: str
    kind: Kind
    size: int
    sha256: str | None
    deliveries: int
    conflicts: int
    headers: msgspec.Raw
    query: str
    timings: msgspec.Raw
    observed: str | None
    rules_id: uuid.UUID | None
    duplicate_of: uuid.UUID | None
    received_at: dt.datetime


class CausedRun(msgspec.Struct, frozen=True):
    """A run that an event caused when it came."""

    id: uuid.UUID
    number: int
    state: RunState


class RunOfEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A run of an event: caused by it, replayed, or one that resumed or repeated such a run."""

    id: uuid.UUID
    number: int
    state: RunState
    item: int
    pipeline_id: str
    schedule_id: uuid.UUID | None
    origin: Origin
    replay_id: uuid.UUID | None
    parent_id: uuid.UUID | None
    created_at: dt.datetime


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that came again; `reason_code` says whether its body was the same."""

    id: uuid.UUID
    reason_code: str
    size: int
    sha256: str | None
    received_at: dt.datetime


class ExplainedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its bytes and the rules under which it was judged; headers and query have secrets masked."""

    id: uuid.UUID
    schedule_id: uuid.UUID
    source: str
    verdict: Verdict
    reason_code: str | None
    reason: str | None
    event_type: str | None
    dedupe_key: str | None
    duplicate_of: uuid.UUID | None
    content_type: str
    kind: Kind
    headers: msgspec.Raw
    query: str
    observed: str | None
    size: int
    body: bytes
    object: str | None
    received_at: dt.datetime
    rules_id: uuid.UUID | None
    filter: str | None
    mapping: dict[str, str]
    dedupe: str | None
    split: bool


class JudgedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a schedule at the time when it judged an event."""

    filter: str | None
    mapping: dict[str, str]
    dedupe: str | None
    split: bool


class BodyPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What of a body is shown at a glance: JSON as it is, the beginning of a text, or that of other bytes in hex."""

    format: Literal["json", "text", "hex", "none"]
    value: msgspec.Raw
    truncated: bool


class ListedEvent(Event, frozen=True, kw_only=True):
    """An event in a list, with the first runs that it caused, and how many replays made runs of it."""

    runs: Sequence[CausedRun]
    has_more_runs: bool
    replays: int


class InspectedEvent(Event, frozen=True, kw_only=True):
    """An event with all that is known of it; `duplicates` are a sample, `rules` null when there were none."""

    runs: Sequence[RunOfEvent]
    has_more_runs: bool
    replays: int
    duplicates: Sequence[Duplicate]
    body_preview: BodyPreview
    rules: JudgedBy | None


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a list shows; `q` is a text in the bytes, `verdicts` any of several."""

    schedule_id: uuid.UUID | None = None
    pipeline_id: str | None = None
    verdict: Verdict | None = None
    verdicts: tuple[Verdict, ...] = ()
    source: str | None = None
    reason_code: str | None = None
    event_type: str | None = None
    dedupe_key: str | None = None
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None
    q: str | None = None


class Oldest(msgspec.Struct, frozen=True):
    """What a bounded look found, the oldest first; up to `looked_until` nothing else is there."""

    ids: Sequence[uuid.UUID]
    looked_until: uuid.UUID
    has_more: bool


class EventBody(msgspec.Struct, frozen=True, kw_only=True):
    """The stored bytes of an event, or where they lie in the object store.

    Of a refused request only the beginning may be kept; then it is not whole.
    """

    content_type: str
    body: bytes
    object: str | None
    size: int
    sha256: bytes | None
    is_whole: bool


def fit_dedupe_key(key: str) -> str:
    """Keep a sender's id as it is, or its SHA-256 when Postgres cannot: too long to be indexed, or with a NUL."""
    if len(key) <= DEDUPE_KEY_LIMIT and "\0" not in key:
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
