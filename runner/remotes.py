"""Blocks that wait for another system: their requests, and the answers that are called back.

The wait is a row in `signals`, so it outlives the runner: the next owner of the run finds whether the request was
taken and does not send it again. If that is not certain it is sent again under the same idempotency key, and with the
same callback URL, since the token in it is derived and not drawn. A block that tries again after a failure asks anew,
in a next round.
"""

import asyncio
import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import msgspec
import structlog

from runner.wire import Asked, Call, Failed, Outcome, Reason, Succeeded
from schemas import payload, tasks
from schemas.changes import unpack
from schemas.errors import PenstockError, Unavailable
from schemas.outputs import UNMAPPED, Output
from schemas.payload import Kind
from schemas.runs import RunError
from schemas.settings import Settings, base_url
from schemas.signals import Signal
from schemas.signatures import signing_keys
from schemas.store import signals
from schemas.store.db import Database

if TYPE_CHECKING:
    from schemas.outgoing import Answer, Outgoing

log = structlog.get_logger()
T = TypeVar("T")

POLL_S = 1.0
RETRY_S = 0.2
LONGEST_QUOTE = 300
FAILED_STATES = frozenset({"failed", "cancelled", "canceled", "error"})
CONFLICT = 409
WORTH_RETRYING = frozenset({408, CONFLICT, 425, 429})  # of 400 to 499


class _Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Which block waits."""

    run_id: uuid.UUID
    block_id: str
    map_index: int | None

    @property
    def row(self) -> int:
        """Say which row of the block's in `signals` it is."""
        return UNMAPPED if self.map_index is None else self.map_index

    def key(self, number: int) -> str:
        """Give the idempotency key of a round; that of the first one is what the block knows as its own."""
        item = "" if self.map_index is None else f":{self.map_index}"
        again = "" if number == 1 else f":{number}"
        return f"{self.run_id}:{self.block_id}{item}{again}"


class _NoAnswer(Exception):
    """The wait is over without an answer."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Remotes:
    """Sends what blocks ask of other systems, and waits for the answers of all of them in one place."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self._base_url = base_url(settings)
        self._keys = signing_keys(settings.secret_keys)
        self._outgoing: Outgoing | None = None
        self._waiting: dict[uuid.UUID, tuple[uuid.UUID, asyncio.Future[msgspec.Raw]]] = {}
        self._failed: WeakKeyDictionary[asyncio.Event, set[_Wait]] = WeakKeyDictionary()  # by the run's own event
        self._wake = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Stop listening for answers; what waits is found again by the next owner."""
        await tasks.end([self._poller])
        if self._outgoing is not None:
            await self._outgoing.close()

    def hear(self, news: bytes | None) -> None:
        """Look soon: answers came, perhaps one of ours."""
        runs = None if news is None else set(unpack(news))
        if any(runs is None or run_id in runs for run_id, _ in self._waiting.values()):
            self._wake.set()

    async def resolve(
        self,
        call: Call,
        asked: Asked,
        *,
        cancelled: asyncio.Event,
        timeout: float | None,  # noqa: ASYNC109  (the block's own; it becomes an outcome, not an exception)
    ) -> Outcome:
        """Have it done elsewhere and wait for the answer, at most for what the block or the request allows.

        The outcome is a value, as that of a block host is.
        """
        wait = _Wait(run_id=call.run_id, block_id=call.block_id, map_index=call.map_index)
        begun = time.monotonic()
        work = asyncio.create_task(self._work(wait, asked, cancelled))
        stop = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.wait({work, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            outcome = _over(call, cancelled, timeout) if not work.done() else work.result()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)
        if isinstance(outcome, Failed) and not cancelled.is_set():
            self._failed.setdefault(cancelled, set()).add(wait)
        duration_ms = asked.duration_ms + round((time.monotonic() - begun) * 1000)
        return msgspec.structs.replace(outcome, duration_ms=duration_ms, queue_ms=asked.queue_ms)

    async def _work(self, wait: _Wait, asked: Asked, cancelled: asyncio.Event) -> Outcome:
        try:
            return _judge(await self._ask_and_wait(wait, asked, cancelled), wait.block_id)
        except _NoAnswer as error:
            return _failure(error.reason, str(error), wait.block_id)

    async def _ask_and_wait(self, wait: _Wait, asked: Asked, cancelled: asyncio.Event) -> msgspec.Raw:
        signal = await self._begin(wait, cancelled)
        if signal.received_at is not None:
            return signal.payload
        if signal.sent_at is None:
            await self._send(wait, signal, asked)
            await _insist(lambda: signals.sent(self._db, signal))
        try:
            async with asyncio.timeout(asked.timeout - signal.waited_s):
                return await self._answer(wait, signal)
        except TimeoutError:
            raise _NoAnswer(Reason.TIMEOUT, f"nobody called back within {asked.timeout:g} s") from None

    async def _begin(self, wait: _Wait, cancelled: asyncio.Event) -> Signal:
        """Find the wait that an earlier owner began, or begin one; after a failed one here, the next round."""
        if not self._keys:
            raise _NoAnswer(Reason.REMOTE_REFUSED, "PENSTOCK_SECRET_KEYS is not set for this runner")
        found = await _insist(lambda: signals.get(self._db, wait.run_id, wait.block_id, wait.row))
        failed = self._failed.get(cancelled, set())
        if found is not None and not (wait in failed and found.is_used):
            return found
        failed.discard(wait)
        number = 1 if found is None else found.round + 1
        digest = _digest(_token(self._keys[0], wait, number))
        begun = await _insist(
            lambda: signals.ask(self._db, wait.run_id, wait.block_id, wait.row, number=number, digest=digest)
        )
        if begun is None:
            raise _NoAnswer(Reason.REMOTE_FAILED, "another owner of the run has asked meanwhile")
        return begun

    async def _send(self, wait: _Wait, signal: Signal, asked: Asked) -> None:
        from schemas.outgoing import (  # httpx, which an idle runner does without
            Outgoing,
            OutgoingFailed,
            OutgoingRefused,
        )

        if self._outgoing is None:
            self._outgoing = Outgoing(self._settings.outgoing_allow)
        key, url = wait.key(signal.round), self._callback_url(wait, signal)
        headers = asked.headers | {
            "content-type": "application/json",
            "idempotency-key": key,
            "x-penstock-run": str(wait.run_id),
            "x-penstock-callback": url,
        }
        try:
            answer = await self._outgoing.send("POST", asked.url, headers=headers, content=_fill(asked, url, key))
        except OutgoingRefused as error:
            raise _NoAnswer(Reason.REMOTE_REFUSED, error.message) from None
        except OutgoingFailed as error:
            raise _NoAnswer(Reason.REMOTE_FAILED, f"{_host(asked)}: {error.message}") from None
        if not _was_taken(asked, answer):
            is_final = 400 <= answer.status < 500 and answer.status not in WORTH_RETRYING
            quote = answer.body.decode(errors="replace")[:LONGEST_QUOTE].replace("\0", " ")
            raise _NoAnswer(
                Reason.REMOTE_REFUSED if is_final else Reason.REMOTE_FAILED,
                f"{_host(asked)} answered {answer.status}: {quote}",
            )

    def _callback_url(self, wait: _Wait, signal: Signal) -> str:
        tokens = [_token(key, wait, signal.round) for key in self._keys]
        token = next((token for token in tokens if _digest(token) == signal.hash), tokens[0])
        return f"{self._base_url}/callbacks/{wait.run_id}/{token}"

    async def _answer(self, wait: _Wait, signal: Signal) -> msgspec.Raw:
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[signal.id] = wait.run_id, future
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll_for_ever())
        self._wake.set()
        try:
            return await future
        finally:
            del self._waiting[signal.id]

    async def _poll_for_ever(self) -> None:
        while True:
            await tasks.set_within(self._wake, POLL_S)
            self._wake.clear()
            try:
                answers = await signals.answers(self._db, list(self._waiting)) if self._waiting else {}
            except PenstockError as error:
                log.warning("answers are not read, trying again", error=type(error).__name__)
                continue
            for signal_id, answer in answers.items():
                _, future = self._waiting.get(signal_id, (None, None))
                if future is not None and not future.done():
                    future.set_result(answer)


async def _insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the database until it answers: only the lease says when to give up."""
    while True:
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(RETRY_S)


def _token(key: bytes, wait: _Wait, number: int) -> str:
    message = f"penstock.signal.{wait.key(number)}".encode()
    return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).decode().rstrip("=")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _fill(asked: Asked, callback_url: str, key: str) -> bytes:
    """Put the callback URL and the key into the body, where its receiver expects them."""
    body = msgspec.json.decode(asked.body)
    for field, text in ((asked.callback_field, callback_url), (asked.key_field, key)):
        if field is not None:
            body = _put(body, field.split("."), text)
    return msgspec.json.encode(body)


def _put(value: Any, path: list[str], text: str) -> Any:
    if not path:
        return text
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _NoAnswer(Reason.OUTPUT_INVALID, f"the json of a Remote must be an object to hold {path[0]!r}")
    return value | {path[0]: _put(value.get(path[0]), path[1:], text)}


def _was_taken(asked: Asked, answer: "Answer") -> bool:
    """Say whether the request is in good hands; one that was sent before is, too."""
    if answer.status != CONFLICT:
        return answer.is_success
    return asked.system == "airflow" or (asked.system == "penstock" and b'"run_id"' in answer.body)


def _host(asked: Asked) -> str:
    return urlsplit(asked.url).hostname or "the other system"


def _judge(answer: msgspec.Raw, block_id: str) -> Outcome:
    """Turn an answer into what became of the block: it succeeded unless the answer says otherwise."""
    try:
        value = payload.decode(Kind.JSON, bytes(answer), content_type="", url="")
        encoded = msgspec.msgpack.encode(value)
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        return _failure(Reason.OUTPUT_INVALID, f"the answer cannot be read: {error}", block_id)
    told = value.get("data", value) if isinstance(value, dict) else value
    state = told.get("state") if isinstance(told, dict) else None
    if isinstance(state, str) and state.lower() in FAILED_STATES:
        return _failure(Reason.REMOTE_FAILED, f"the other system says {state}{_why(told)}", block_id)
    return Succeeded(output=Output(data=encoded, size=len(encoded)))


def _why(told: dict[str, Any]) -> str:
    error = told.get("error") or told.get("message") or ""
    if isinstance(error, dict):
        error = ": ".join(str(error[name]) for name in ("type", "message") if error.get(name))
    return f": {error}"[:LONGEST_QUOTE].replace("\0", " ") if error else ""


def _over(call: Call, cancelled: asyncio.Event, timeout: float | None) -> Failed:
    if cancelled.is_set():
        return _failure(Reason.CANCELLED, f"block {call.block_id!r} was cancelled while it waited", call.block_id)
    return _failure(Reason.TIMEOUT, f"block {call.block_id!r} did not finish within {timeout:g} s", call.block_id)


def _failure(reason: Reason, message: str, block_id: str) -> Failed:
    return Failed(reason=reason, error=RunError(type=reason, message=message, block_id=block_id))
