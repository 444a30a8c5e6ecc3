"""Tells targets what became of runs: takes callbacks that are due, delivers them, writes down how that went.

The rows are made by the database together with the end of the run, so none is forgotten. A runner takes them for
`LEASE_S` at a time; what a dead one was about to deliver is delivered by another, under the same id (`webhook-id`),
by which a receiver knows a repetition. Standard Webhooks 1.0 says what a webhook looks like, and that 410 ends the
attempts.
"""

import asyncio
import datetime as dt
import random
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import structlog

from runner import mail, notices
from runner.mail import MailFailed
from schemas import tasks
from schemas.addresses import parse_networks
from schemas.callbacks import Attempt, CallbackKind, DueCallback, Reason
from schemas.clock import DatabaseClock
from schemas.errors import NotFound, PenstockError
from schemas.runs import Run
from schemas.settings import Settings, base_url, event_body_url
from schemas.shown import show_run
from schemas.signatures import sign, signing_keys
from schemas.store import callbacks, runs
from schemas.store.db import Database

if TYPE_CHECKING:
    from schemas.outgoing import Outgoing

log = structlog.get_logger()

RETRY_AFTER_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)  # about 23 hours in all
LONGEST_RETRY_S = 12 * 3600.0
POLL_S = 0.5
LEASE_S = 60.0  # longer than the attempts that wait for each other on one host: 24 / 8 times 15 s
TAKE_AT_ONCE = 24
MOST_AT_ONCE = 64
MOST_PER_HOST = 8
LARGEST_TOLD_BODY = 16 << 10
LONGEST_KEPT_ANSWER = 500
GONE = 410
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended; `is_final` says that another would end the same."""

    is_success: bool = False
    is_final: bool = False
    status: int | None = None
    error: str | None = None
    answer: str = ""
    retry_after: float = 0.0


class Callbacks:
    """Delivers what is due, many at a time, but never so many to one host that the others wait.

    Raises SettingsError at once when a setting for that is wrong.
    """

    def __init__(self, db: Database, settings: Settings, *, clock: DatabaseClock) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock
        parse_networks(settings.outgoing_allow)
        if settings.smtp_url:
            mail.check_url(settings.smtp_url)
        self._keys = signing_keys(settings.secret_keys)
        self._base_url = base_url(settings)
        self._outgoing: Outgoing | None = None
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._open: Counter[str] = Counter()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for callbacks that are due."""
        self._task = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """Stop; what is under way is due again later, here or elsewhere."""
        await tasks.end([self._task])
        await tasks.end(list(self._deliveries))
        if self._outgoing is not None:
            await self._outgoing.close()

    def wake(self, _payload: bytes | None = None) -> None:
        """Look now: something became due."""
        self._wake.set()

    async def _look_for_ever(self) -> None:
        while True:
            await tasks.set_within(self._wake, POLL_S * random.uniform(0.8, 1.2))  # noqa: S311
            self._wake.clear()
            try:
                await self._take()
            except PenstockError as error:
                log.warning("callbacks are not read, trying again", error=type(error).__name__)
            except Exception:
                log.exception("callbacks are not read, trying again")

    async def _take(self) -> None:
        room = min(TAKE_AT_ONCE, MOST_AT_ONCE - len(self._deliveries))
        if room <= 0:
            return
        busy = [host for host, count in self._open.items() if count >= MOST_PER_HOST]
        taken = await callbacks.take(self._db, room, lease_s=LEASE_S, busy_hosts=busy)
        for callback in taken:
            self._open[callback.host] += 1
            delivery = asyncio.create_task(self._deliver(callback))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        if len(taken) == room:
            self._wake.set()

    async def _deliver(self, callback: DueCallback) -> None:
        turn = self._turns.setdefault(callback.host, asyncio.Semaphore(MOST_PER_HOST))
        try:
            async with turn:
                begun, at = time.monotonic(), self._clock.now()
                result = await self._attempt(callback)
                await self._write_down(callback, result, at=at, seconds=time.monotonic() - begun)
        except PenstockError as error:  # the lease brings it back
            log.warning("a callback's result is not written", callback_id=str(callback.id), error=type(error).__name__)
        except Exception:
            log.exception("a callback broke", callback_id=str(callback.id))
        finally:
            self._open[callback.host] -= 1
            if not self._open[callback.host]:
                del self._open[callback.host], self._turns[callback.host]
            if len(self._deliveries) >= MOST_AT_ONCE:
                self._wake.set()

    async def _attempt(self, callback: DueCallback) -> Result:
        try:
            row = await runs.get(self._db, str(callback.run_id), largest_body=LARGEST_TOLD_BODY)
        except NotFound:
            return Result(is_final=True, error="the run is gone")
        run = show_run(row, (), event_url=lambda event_id: event_body_url(self._base_url, event_id))
        if callback.kind is CallbackKind.WEBHOOK:
            return await self._send_webhook(callback, run)
        notice = notices.describe(run, callback.reason, url=f"{self._base_url}/v1/runs/{run.id}")
        if callback.kind is CallbackKind.SLACK:
            return await self._post(callback.target, notice.slack(), {})
        return await self._send_mail(callback, notice)

    async def _send_webhook(self, callback: DueCallback, run: Run) -> Result:
        if not self._keys:
            return Result(error="PENSTOCK_SECRET_KEYS is not set here, so nothing can be signed")
        body, timestamp = _tell(run, callback.reason), int(self._clock.now().timestamp())
        signature = sign(self._keys, str(callback.id), timestamp, body)
        headers = {
            "webhook-id": str(callback.id),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        }
        return await self._post(callback.target, body, headers)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Result:
        from schemas.outgoing import (  # httpx, which an idle runner does without
            Outgoing,
            OutgoingFailed,
            OutgoingRefused,
        )

        if self._outgoing is None:
            self._outgoing = Outgoing(self._settings.outgoing_allow)
        try:
            answer = await self._outgoing.send(
                "POST", url, headers=headers | {"content-type": "application/json"}, content=body
            )
        except OutgoingRefused as error:
            return Result(is_final=True, error=error.message)
        except OutgoingFailed as error:
            return Result(error=error.message)
        return Result(
            is_success=answer.is_success,
            is_final=answer.status == GONE,
            status=answer.status,
            error=None if answer.is_success else f"answered {answer.status}",
            answer=answer.body.decode(errors="replace"),
            retry_after=answer.retry_after or 0.0,
        )

    async def _send_mail(self, callback: DueCallback, notice: notices.Notice) -> Result:
        settings = self._settings
        if not (settings.smtp_url and settings.mail_from):
            return Result(error="PENSTOCK_SMTP_URL and PENSTOCK_MAIL_FROM are not set for this runner")
        message = notice.email(sender=settings.mail_from, recipient=callback.target, message_id=str(callback.id))
        try:
            await mail.send(settings.smtp_url, message)
        except MailFailed as error:
            return Result(status=error.status, error=str(error))
        return Result(is_success=True)

    async def _write_down(self, callback: DueCallback, result: Result, *, at: dt.datetime, seconds: float) -> None:
        attempt = Attempt(
            at=at,
            status=result.status,
            duration_ms=round(seconds * 1000),
            error=None if result.error is None else _printable(result.error),
            answer=_printable(result.answer),
        )
        if result.is_success:
            return await callbacks.delivered(self._db, callback, attempt)
        retry_in_s = None if result.is_final else _pause_s(callback.failures, result.retry_after)
        log.info(
            "a callback was not delivered",
            callback_id=str(callback.id),
            host=callback.host,
            error=attempt.error,
            retry_in_s=retry_in_s,
        )
        return await callbacks.not_delivered(self._db, callback, attempt, retry_in_s=retry_in_s)


def _tell(run: Run, reason: Reason) -> bytes:
    """Write the body of a webhook; it is the same in each attempt."""
    data = msgspec.structs.asdict(run)
    del data["block_runs"]
    kind = run.state if reason is Reason.FINISHED else reason
    return msgspec.json.encode({"type": f"run.{kind}", "timestamp": run.finished_at, "data": data})


def _pause_s(failures: int, retry_after: float) -> float | None:
    """Say how long to wait after so many failures and one more; None when it was the last."""
    if failures >= len(RETRY_AFTER_S):
        return None
    pause = RETRY_AFTER_S[failures] * random.uniform(0.85, 1.0)  # noqa: S311
    return min(max(pause, retry_after), LONGEST_RETRY_S)


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)[:LONGEST_KEPT_ANSWER]
