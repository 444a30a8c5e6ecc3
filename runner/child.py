"""One block host as the runner talks to it: one question at a time, and always an answer."""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from runner.process import HostProcess
from runner.wire import (
    Answer,
    Asked,
    Call,
    Describe,
    Described,
    Failed,
    LogFrame,
    Outcome,
    Ready,
    Reason,
    Reply,
    Request,
)
from schemas.runs import RunError

OnLog = Callable[[LogFrame], asyncio.Future[Any] | None]

_CANCEL_WATCH_DELAY = 0.05  # most blocks are done by then, and need no task that waits for a cancel


class Child:
    """A block host that executes one block at a time; of no more use once `is_usable` is false.

    `on_exit` is called once, when the process is gone.
    """

    def __init__(self, *, grace: float, on_exit: Callable[["Child"], None] = lambda _: None) -> None:
        self._grace = grace
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._process = HostProcess(on_frame=self._take, on_gone=self._end)
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._reply: asyncio.Future[Reply] | None = None
        self._on_log: OnLog = self._remember
        self._subject = "block host"
        self._block_id: str | None = None
        self._asked_at = 0.0
        self._stopped: tuple[Reason, str] | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._last_words: deque[str] = deque(maxlen=5)
        self.is_usable = False

    async def start(self, directory: Path, *, memory_mb: int = 0) -> bool:
        """Start the process and wait until it takes calls; False when it ends before. Raises OSError."""
        await self._process.start(directory, memory_mb=memory_mb)
        try:
            self.is_usable = await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            self.kill()
            raise
        return self.is_usable

    async def call(
        self, call: Call, *, within: float | None, on_log: OnLog, cancelled: asyncio.Event | None
    ) -> Outcome | Asked:
        """Execute one block within some seconds.

        Once it is stopped, for time or by a cancel, that is the outcome, whatever the block still does.
        """
        self._on_log = on_log
        self._block_id = call.block_id
        watch = None if cancelled is None else _CancelWatch(self, cancelled)
        try:
            return cast(Outcome | Asked, await self._ask(call, subject=f"block {call.block_id!r}", within=within))
        finally:
            self._on_log = _drop
            if watch is not None:
                watch.close()

    async def describe(self, path: str, *, within: float) -> Described | Failed:
        """Load one file and say what it defines."""
        return cast(Described | Failed, await self._ask(Describe(path=path), subject=path, within=within))

    def stop(self, reason: Reason, message: str) -> None:
        """Interrupt what it executes, and kill it when that does not help within the grace."""
        self.is_usable = False
        if self._stopped is None:
            self._stopped = reason, message
            self._process.interrupt()
            self._kill_after_grace()

    def cancel(self) -> None:
        """Stop it because nobody wants the result any more."""
        self.stop(Reason.CANCELLED, f"{self._subject} was cancelled while it was running")

    def kill(self) -> None:
        """Kill it now, and everything that it started."""
        self.is_usable = False
        self._process.kill()

    async def close(self) -> None:
        """Let an idle process end by itself, kill it after the grace; returns when it is gone."""
        self.is_usable = False
        self._process.hang_up()
        self._kill_after_grace()
        await asyncio.shield(self._gone)

    def explain_exit(self) -> str:
        """Say how it ended; one that never was ready also with its last words."""
        return "\n".join([self._process.explain_exit(), *self._last_words])

    async def _ask(self, request: Request, *, subject: str, within: float | None) -> Reply:
        self._subject = subject
        self._asked_at = self._loop.time()
        self._reply = self._loop.create_future()
        if self._gone.done():
            return self._failure(Reason.HOST_DIED, f"{subject}: {self.explain_exit()}")
        timer = within and self._loop.call_later(within, self._time_out, within)
        self._process.send(request)
        try:
            return await self._reply
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            self._reply = None
            if timer:
                timer.cancel()

    def _time_out(self, seconds: float) -> None:
        self.stop(Reason.TIMEOUT, f"{self._subject} did not finish within {seconds:g} s")

    def _kill_after_grace(self) -> None:
        if self._kill_timer is None and not self._gone.done():
            self._kill_timer = self._loop.call_later(self._grace, self.kill)

    def _take(self, frame: Answer) -> asyncio.Future[Any] | None:
        if isinstance(frame, LogFrame):
            return self._on_log(frame)
        if isinstance(frame, Ready):
            self._on_log = _drop
            self._ready.set_result(True)
        else:
            self._process.drain_output()
            self._resolve(frame)
        return None

    def _resolve(self, reply: Reply) -> None:
        if self._reply is None or self._reply.done():
            return
        if self._stopped is not None:
            reason, message = self._stopped
            reply = self._failure(reason, message, interrupted=reply)
        self._reply.set_result(reply)

    def _failure(self, reason: Reason, message: str, *, interrupted: Reply | None = None) -> Failed:
        traceback = interrupted.error.traceback if isinstance(interrupted, Failed) else None
        error = RunError(type=reason, message=message, block_id=self._block_id, traceback=traceback)
        return Failed(reason=reason, error=error, duration_ms=round((self._loop.time() - self._asked_at) * 1000))

    def _end(self) -> None:
        self.is_usable = False
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._resolve(self._failure(Reason.HOST_DIED, f"{self._subject}: {self.explain_exit()}"))
        if not self._ready.done():
            self._ready.set_result(False)
        self._gone.set_result(None)
        self._on_exit(self)

    def _remember(self, frame: LogFrame) -> None:
        self._last_words.append(frame.message)


class _CancelWatch:
    """Cancels a child once an event is set."""

    def __init__(self, child: Child, cancelled: asyncio.Event) -> None:
        self._child = child
        self._cancelled = cancelled
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_CANCEL_WATCH_DELAY, self._start)

    def close(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        await self._cancelled.wait()
        self._child.cancel()


def _drop(_frame: LogFrame) -> None:
    """Nobody asked for what is said between two calls."""
