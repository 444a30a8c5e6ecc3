"""What a block is told: its run, its parameters, the event that caused it, and where its log goes."""

import datetime as dt
import logging
import traceback
import uuid
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import msgspec

from schemas.payload import Kind, decode, reference
from schemas.runs import RunError
from schemas.states import LogLevel, RunState

P = TypeVar("P")
LogSink = Callable[[LogLevel, str, dict[str, Any]], None]


class Cancelled(BaseException):
    """The block is cancelled or out of time: raised inside a block that is not async. Clean up and let it pass."""


class EventBody(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The raw body of the delivery that caused a run, and how it is read; `url` is where its bytes can be fetched.

    A large one is not here but an `object` of the object store at `store`, with `size` bytes and the hash `sha256`.
    """

    kind: Kind
    body: bytes
    content_type: str = ""
    url: str = ""
    object: str | None = None
    store: str = ""
    size: int = 0
    sha256: str = ""

    def decode(self) -> Any:
        """Build `event_variables` by the rule of `schemas.payload`; a large body is described."""
        if self.object is not None:
            return reference(self.size, self.sha256, content_type=self.content_type, url=self.url)
        return decode(self.kind, self.body, content_type=self.content_type, url=self.url)

    def decode_all(self, body: bytes) -> Any:
        """Build what `event_variables` would be if size did not matter, and bytes that are no text as they are."""
        return (
            body if self.kind is Kind.BINARY else decode(self.kind, body, content_type=self.content_type, url=self.url)
        )


class Log:
    """The log of a block: `run.log.info("loaded", rows=12)`. Fields are kept beside the message, as data."""

    __slots__ = ("_sink",)

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def debug(self, message: str, /, **fields: Any) -> None:
        """Log what helps while developing."""
        self._sink(LogLevel.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """Log what happens."""
        self._sink(LogLevel.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        """Log what somebody should look at."""
        self._sink(LogLevel.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """Log what went wrong."""
        self._sink(LogLevel.ERROR, message, fields)

    def exception(self, message: str, /, **fields: Any) -> None:
        """Log an error together with the traceback of the exception being handled, as field `traceback`."""
        self._sink(LogLevel.ERROR, message, {"traceback": traceback.format_exc(), **fields})


def to_logging(level: LogLevel, message: str, fields: dict[str, Any]) -> None:
    """Write to the standard library's logger `penstock.pipeline`: where the log goes outside of Penstock."""
    logger = logging.getLogger("penstock.pipeline")
    logger.log(
        getattr(logging, level.upper()), "%s %s" if fields else "%s", *((message, fields) if fields else (message,))
    )


class Run(Generic[P]):
    """The run that a block works for. Ask for it with a parameter named `run` or annotated `Run[Params]`.

    In a unit test build one yourself: `Run(params=Params(region="eu"), event_variables={"ref": "main"})`.
    `map_index` counts the items of a mapped block from 0. A callback finds in `state` and `error` how the run, or the
    block named by `about`, has ended.
    """

    def __init__(
        self,
        *,
        params: P | None = None,
        variables: dict[str, Any] | None = None,
        event_variables: Any = None,
        id: uuid.UUID | None = None,  # noqa: A002  (the word that users know from the API)
        number: int = 1,
        pipeline_id: str = "pipeline",
        block_id: str = "block",
        schedule_id: uuid.UUID | None = None,
        event_id: uuid.UUID | None = None,
        logical_date: dt.datetime | None = None,
        attempt: int = 1,
        map_index: int | None = None,
        state: str = RunState.RUNNING,
        error: RunError | None = None,
        about: str | None = None,
        is_dry_run: bool = False,
        log: Log | None = None,
        fetch: Callable[[EventBody], bytes] | None = None,
    ) -> None:
        self.params: P = cast(P, params)
        self.variables: dict[str, Any] = {} if variables is None else variables
        self._given = event_variables
        self.id = id or uuid.uuid4()
        self.number = number
        self.pipeline_id = pipeline_id
        self.block_id = block_id
        self.schedule_id = schedule_id
        self.event_id = event_id
        self.logical_date = logical_date
        self.attempt = attempt
        self.map_index = map_index
        self.state = state
        self.error = error
        self.about = about
        self.is_dry_run = is_dry_run
        self.log = log or Log(to_logging)
        self._fetch = fetch

    @cached_property
    def event_variables(self) -> Any:
        """The decoded payload of the event that caused this run, whatever its type; None without one.

        A payload of more than 256 KiB is described by `content_type`, `size`, `sha256` and `url`: see `read_event`.
        """
        return self._given.decode() if isinstance(self._given, EventBody) else self._given

    def read_event(self) -> Any:
        """Read the payload of the event, however large it is: what `event_variables` is when that is not described.

        Bytes that are no text are given as bytes. A large payload is fetched in this moment, each time anew.
        """
        event = self._given
        is_described = isinstance(event, EventBody) and (event.object is not None or event.kind is Kind.BINARY)
        return event.decode_all(self.read_event_bytes()) if is_described else self.event_variables

    def read_event_bytes(self) -> bytes:
        """Read the body of the event, byte for byte as it was sent; empty without one.

        In a unit test these are the `event_variables`, as JSON unless they are text or bytes.
        """
        if not isinstance(self._given, EventBody):
            return _as_sent(self._given)
        return self._given.body if self._given.object is None or self._fetch is None else self._fetch(self._given)

    @property
    def idempotency_key(self) -> str:
        """The same text in every attempt of this block, or of this item of a mapped block, in this run.

        Give it to outside systems that deduplicate.
        """
        return f"{self.id}:{self.block_id}" + ("" if self.map_index is None else f":{self.map_index}")

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.pipeline_id}, block {self.block_id}, attempt {self.attempt}>"


def _as_sent(event_variables: Any) -> bytes:
    if event_variables is None:
        return b""
    if isinstance(event_variables, str):
        return event_variables.encode()
    return event_variables if isinstance(event_variables, bytes) else msgspec.json.encode(event_variables)
