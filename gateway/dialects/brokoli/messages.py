"""What `/api/ws` says, made out of the events of our streams: one JSON object each, in Brokoli's form before its 0.7.

Beside Brokoli's members each has `seq`, its place in the history of its run, and `cursor`, from which `since` goes on.
What Brokoli has no word for (a run that is queued, the items of a mapped block) is left out.
"""

import datetime as dt
from functools import lru_cache

import msgspec

from gateway import frames
from gateway.dialects.brokoli.wire import NODE_STATUS, RUN_STATUS
from schemas.runs import RunError
from schemas.states import BlockState, RunState

_LARGEST_SHARED = 16 << 10
_RUN_TYPES = {
    RunState.RUNNING: "run.started",
    RunState.SUCCESS: "run.completed",
    RunState.FAILED: "run.failed",
    RunState.CANCELLED: "run.failed",
}
_NODE_TYPES = {
    BlockState.RUNNING: "node.started",
    BlockState.PENDING: "node.started",  # again: it waits for its next attempt
    BlockState.SUCCESS: "node.completed",
    BlockState.SKIPPED: "node.completed",
    BlockState.UPSTREAM_FAILED: "node.completed",
    BlockState.FAILED: "node.failed",
    BlockState.CANCELLED: "node.failed",
}
_UNSAID = frozenset({BlockState.RUNNING, BlockState.SUCCESS, BlockState.FAILED})  # the type says it


class Told(msgspec.Struct, frozen=True):
    """An event of ours, as far as Brokoli knows such things."""

    type: str
    seq: int = 0
    at: dt.datetime | None = None
    run_id: str = ""
    pipeline_id: str = ""
    state: str = ""
    block_id: str = ""
    map_index: int | None = None
    attempt: int = 0
    row_count: int = 0
    duration_ms: int = 0
    error: RunError | None = None
    level: str = ""
    message: str = ""
    cursor: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of Brokoli; what is empty is left out."""

    type: str
    run_id: str
    pipeline_id: str = ""
    node_id: str = ""
    status: str = ""
    row_count: int = 0
    duration_ms: int = 0
    error: str = ""
    level: str = ""
    message: str = ""
    timestamp: dt.datetime | None
    seq: int
    cursor: str = ""


_decode = msgspec.json.Decoder(Told).decode
_encode = msgspec.json.Encoder().encode


def text_frames(events: bytes, pipeline_id: str) -> bytes:
    """Turn events into text frames; `pipeline_id` is that of all these events, where they do not say it."""
    make = _shared_text_frames if len(events) <= _LARGEST_SHARED else _text_frames
    return make(events, pipeline_id)


def translate(message: bytes, pipeline_id: str = "") -> bytes | None:
    """Say in Brokoli's words what a message of `gateway.frames` says; None for what it has no words for.

    A gap stays as it is: the `from` and `to` that are missing of a run, or how many were `missed` of all.
    """
    told = _decode(message)
    if told.type == "gap":
        return message
    translated = _TRANSLATIONS[told.type](told, told.pipeline_id or pipeline_id) if told.type in _TRANSLATIONS else None
    return None if translated is None else _encode(translated)


def _run(told: Told, pipeline_id: str) -> Message | None:
    state = RunState(told.state)
    if state not in _RUN_TYPES:
        return None
    return Message(
        type=_RUN_TYPES[state],
        run_id=told.run_id,
        pipeline_id=pipeline_id,
        status=RUN_STATUS[state] if state.is_terminal else "",
        error=_reason(told) or ("cancelled" if state is RunState.CANCELLED else ""),
        timestamp=told.at,
        seq=told.seq,
        cursor=told.cursor,
    )


def _node(told: Told, pipeline_id: str) -> Message | None:
    state = BlockState(told.state)
    is_retry = state is BlockState.PENDING
    if told.map_index is not None or (is_retry and not told.attempt):
        return None
    status = "" if state in _UNSAID else NODE_STATUS[state]
    return Message(
        type=_NODE_TYPES[state],
        run_id=told.run_id,
        pipeline_id=pipeline_id,
        node_id=told.block_id,
        status="retrying" if is_retry else status,
        row_count=told.row_count,
        duration_ms=told.duration_ms,
        error=f"retry {told.attempt}: {_reason(told)}" if is_retry else _reason(told),
        timestamp=told.at,
        seq=told.seq,
        cursor=told.cursor,
    )


def _log(told: Told, pipeline_id: str) -> Message:
    return Message(
        type="log",
        run_id=told.run_id,
        pipeline_id=pipeline_id,
        node_id=told.block_id,
        level=told.level,
        message=told.message,
        timestamp=told.at,
        seq=told.seq,
        cursor=told.cursor,
    )


def _reason(told: Told) -> str:
    return told.error.message if told.error else ""


def _text_frames(events: bytes, pipeline_id: str) -> bytes:
    translated = (translate(message, pipeline_id) for message in frames.messages(events))
    return b"".join(frames.text_frame(message) for message in translated if message is not None)


_TRANSLATIONS = {"run": _run, "block": _node, "log": _log}
_shared_text_frames = lru_cache(maxsize=64)(_text_frames)  # see gateway/frames.py
