"""Server-Sent Events as bytes (WHATWG HTML, section 9.2), each encoded once for all who watch."""

import datetime as dt
import uuid
from typing import Any

import msgspec

from schemas.changes import Change

PING = b": ping\n\n"
RESTARTING = b"retry: 500\n: the server restarts, come back\n\n"
_NULL = b"null"
_EMPTY = b"{}"


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
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        (event_id or str(change.seq)).encode(),
        change.kind.encode(),
        _encode(data),
    )


def gap(**what: Any) -> bytes:
    """Say that events were left out because the reader was too slow; the API still has them."""
    return b"event: gap\ndata: %b\n\n" % _encode(what)


def end(*, run_id: uuid.UUID, seq: int, state: str) -> bytes:
    """Say that nothing more will come."""
    return b"event: end\ndata: %b\n\n" % _encode({"run_id": run_id, "seq": seq, "state": state})
