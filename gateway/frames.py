"""Server-Sent Events as bytes (WHATWG HTML, section 9.2), each encoded once for all who watch.

The same events go over WebSockets as text frames (RFC 6455, section 5.2), which are made of these bytes.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from schemas.changes import Change, TailedChange

PING = b": ping\n\n"
RESTARTING = b"retry: 500\n: the server restarts, come back\n\n"
_NULL = b"null"
_EMPTY = b"{}"
_LARGEST_SHARED = 16 << 10


class _Data(msgspec.Struct, omit_defaults=True):
    """The data of one event; what does not apply is left out."""

    seq: int
    at: dt.datetime
    run_id: uuid.UUID
    pipeline_id: str | None = None
    state: str | None = None
    block_id: str | None = None
    map_index: int | None = None
    attempt: int | None = None
    row_count: int | None = None
    duration_ms: int | None = None
    error: msgspec.Raw | None = None
    level: str | None = None
    message: str | None = None
    fields: msgspec.Raw | None = None


class _EventData(msgspec.Struct, omit_defaults=True):
    """The data of the event named `event`, which tells of a delivery."""

    event_id: uuid.UUID
    at: dt.datetime
    schedule_id: uuid.UUID | None
    pipeline_id: str
    verdict: str
    source: str
    size: int
    reason_code: str | None = None
    reason: str | None = None
    event_type: str | None = None
    dedupe_key: str | None = None


class _EventFields(msgspec.Struct):
    """What the store tells of a delivery beside its verdict."""

    source: str
    size: int
    reason_code: str | None
    reason: str | None
    event_type: str | None
    dedupe_key: str | None


_encode = msgspec.json.Encoder().encode


def frame(change: Change, *, event_id: str | None = None, pipeline_id: str | None = None) -> bytes:
    """Write a change as an event named by its kind; its id is its seq unless another is given."""
    data = _Data(
        seq=change.seq,
        at=change.at,
        run_id=change.run_id,
        pipeline_id=pipeline_id,
        state=change.state,
        block_id=change.block_id,
        map_index=change.map_index,
        attempt=change.attempt,
        row_count=change.row_count,
        duration_ms=change.duration_ms,
        error=None if bytes(change.error) == _NULL else change.error,
        level=change.level,
        message=change.message,
        fields=None if bytes(change.fields) in (_NULL, _EMPTY) else change.fields,
    )
    return _frame(event_id or str(change.seq), change.kind, data)


def frame_of_event(told: TailedChange, *, event_id: str) -> bytes:
    """Write what is told of a delivery."""
    fields = msgspec.json.decode(told.fields, type=_EventFields)
    data = _EventData(
        event_id=told.run_id,
        at=told.at,
        schedule_id=told.schedule_id,
        pipeline_id=told.pipeline_id,
        verdict=told.state or "",
        **msgspec.structs.asdict(fields),
    )
    return _frame(event_id, told.kind, data)


def _frame(event_id: str, kind: str, data: _Data | _EventData) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), kind.encode(), _encode(data))


def gap(**what: Any) -> bytes:
    """Say that events were left out because the reader was too slow; the API still has them."""
    return b"event: gap\ndata: %b\n\n" % _encode(what)


def end(*, run_id: uuid.UUID, seq: int, state: str) -> bytes:
    """Say that nothing more will come."""
    return b"event: end\ndata: %b\n\n" % _encode({"run_id": run_id, "seq": seq, "state": state})


def text_frames(events: bytes) -> bytes:
    """Turn events into text frames with what `messages` makes of them."""
    return _shared_text_frames(events) if len(events) <= _LARGEST_SHARED else _text_frames(events)


def messages(events: bytes) -> Iterator[bytes]:
    """Turn events into JSON objects: the data with its `type` and, as `cursor`, the id; comments are left out."""
    for event in events.split(b"\n\n"):
        if event.startswith((b"id", b"ev")):
            yield _as_message(event)


def text_frame(message: bytes) -> bytes:
    """Put a message into one unmasked, final text frame."""
    size = len(message)
    if size < 126:
        return b"\x81%c%b" % (size, message)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), message)


def _text_frames(events: bytes) -> bytes:
    return b"".join(map(text_frame, messages(events)))


_shared_text_frames = lru_cache(maxsize=64)(_text_frames)  # all who watch the same get the same bytes at the same time


def _as_message(event: bytes) -> bytes:
    head, _, data = event.partition(b"\ndata: ")
    cursor, _, kind = head.rpartition(b"event: ")
    if not cursor:
        return b'{"type":"%b",%b' % (kind, data[1:])
    return b'{"type":"%b",%b,"cursor":"%b"}' % (kind, data[1:-1], cursor[len(b"id: ") : -1])
