"""What runner and block host say to each other: frames of a 4-byte big-endian length and one msgpack value.

Both ends always come from the same installation, so frames are arrays without field names.
"""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

from runner.context import EventBody
from runner.remote import System
from schemas.outputs import Output
from schemas.pipelines import Definition
from schemas.runs import RunError
from schemas.states import LogLevel

T = TypeVar("T")
OUTPUT_LIMIT = 16 << 20  # of one that goes through memory, where there is no spool to put it into
_HEADER = 4


class Reason(StrEnum):
    """Why a call failed: the block's own exception, or one of our reasons (then also the `type` of its RunError)."""

    RAISED = "Raised"
    PARAMS_INVALID = "ParamsInvalid"
    BLOCK_MISSING = "BlockMissing"
    INPUT_MISSING = "InputMissing"
    OUTPUT_INVALID = "OutputInvalid"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    BRANCH_UNKNOWN = "BranchUnknown"
    MAP_INVALID = "MapInvalid"
    STORE_AWAY = "StoreAway"
    HOST_DIED = "HostDied"
    REMOTE_FAILED = "RemoteFailed"
    REMOTE_REFUSED = "RemoteRefused"
    TIMEOUT = "Timeout"
    CANCELLED = "Cancelled"


_WORTH_RETRYING = frozenset({Reason.RAISED, Reason.HOST_DIED, Reason.REMOTE_FAILED, Reason.STORE_AWAY, Reason.TIMEOUT})


class Refused(Exception):
    """We do not execute this call, or do not take its result."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Frame(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """Anything that goes over the wire."""


class Report(Frame, frozen=True, kw_only=True):
    """What a callback is told: how the run, or the block that `about` names, has ended."""

    state: str
    error: RunError | None = None
    about: str | None = None


class Call(Frame, frozen=True, kw_only=True):
    """Execute one block, one item of a mapped one, or a callback, which comes with a `report`.

    `path` is relative to the pipelines directory, `variables` is a JSON object as text, `inputs` holds the output of
    each upstream block by block id, `gathered` those of mapped ones: item by item, None for one that was skipped.
    An output beyond what a row holds is written into the folder `spool`, up to `output_limit` bytes. A dry run keeps
    only the first `most_rows` of a table.
    """

    path: str
    version: str
    pipeline_id: str
    block_id: str
    run_id: uuid.UUID
    number: int = 1
    attempt: int = 1
    schedule_id: uuid.UUID | None = None
    event_id: uuid.UUID | None = None
    logical_date: dt.datetime | None = None
    variables: bytes = b"{}"
    event: EventBody | None = None
    inputs: dict[str, Output] = {}
    gathered: dict[str, list[Output | None]] = {}
    map_index: int | None = None
    report: Report | None = None
    spool: str | None = None
    output_limit: int = OUTPUT_LIMIT
    most_rows: int | None = None


class Describe(Frame, frozen=True, kw_only=True):
    """Load one file and say which pipelines it defines."""

    path: str


class Ready(Frame, frozen=True, kw_only=True):
    """The host has started and takes its first frame."""


class LogFrame(Frame, frozen=True, kw_only=True):
    """One line that the block wrote; safe to store as text and, its fields, as JSON (no NUL, valid UTF-8, bounded)."""

    level: LogLevel
    message: str
    fields: dict[str, Any] = {}


class Succeeded(Frame, frozen=True, kw_only=True):
    """The block returned; `row_count` is the length of a list, `chosen` the blocks that a Branch lets go on."""

    output: Output
    row_count: int | None = None
    chosen: tuple[str, ...] | None = None
    duration_ms: int = 0
    queue_ms: int = 0


class Skipped(Frame, frozen=True, kw_only=True):
    """The block had nothing to do."""

    reason: str
    duration_ms: int = 0
    queue_ms: int = 0


class Failed(Frame, frozen=True, kw_only=True):
    """The block did not return. Decide by `reason`: a user's exception may be called anything, `Timeout` too."""

    reason: Reason
    error: RunError
    duration_ms: int = 0
    queue_ms: int = 0

    @property
    def is_worth_retrying(self) -> bool:
        """Tell whether another attempt may end differently."""
        return self.reason in _WORTH_RETRYING


class Asked(Frame, frozen=True, kw_only=True):
    """The block wants another system to do its work: see `runner.remote.Remote`; `body` is a JSON value as text."""

    url: str
    body: bytes
    headers: dict[str, str]
    timeout: float
    callback_field: str | None
    key_field: str | None
    system: System
    duration_ms: int = 0
    queue_ms: int = 0


class Described(Frame, frozen=True, kw_only=True):
    """What a file defines; pipelines with a mistake are among them, with `error`."""

    definitions: tuple[Definition, ...]


Outcome = Succeeded | Skipped | Failed
Reply = Outcome | Asked | Described

Request = Call | Describe
Answer = Ready | LogFrame | Reply

requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_encoder = msgspec.msgpack.Encoder()


def pack(frame: Frame) -> bytearray:
    """Return the bytes of one frame."""
    packed = bytearray(_HEADER)
    _encoder.encode_into(frame, packed, _HEADER)
    packed[:_HEADER] = (len(packed) - _HEADER).to_bytes(_HEADER, "big")
    return packed


class FrameBuffer(Generic[T]):
    """Cuts a byte stream into decoded frames of at most `limit` bytes."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T], *, limit: int = 0xFFFF_FFFF) -> None:
        self._decode = decoder.decode
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._data += data

    def next(self) -> T | None:
        """Take the next whole frame, or None until more is fed. Raises msgspec.DecodeError."""
        if len(self._data) < _HEADER:
            return None
        size = int.from_bytes(self._data[:_HEADER], "big")
        if size > self._limit:
            raise msgspec.DecodeError(f"a frame of {size} bytes")
        end = _HEADER + size
        if len(self._data) < end:
            return None
        try:
            with memoryview(self._data) as view, view[_HEADER:end] as payload:
                frame = self._decode(payload)
        except (ValueError, RecursionError) as error:  # invalid UTF-8 is a UnicodeDecodeError, not one of msgspec's
            raise msgspec.DecodeError(str(error)) from None
        del self._data[:end]
        return frame
