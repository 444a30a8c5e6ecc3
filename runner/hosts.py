"""The pool of block hosts: warm processes that execute users' blocks, replaced when they die."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from runner.child import Child, OnLog
from runner.wire import Asked, Call, Failed, Outcome, Reason
from schemas.runs import RunError

_SOON_PER_CPU = 3  # hosts for each processor that start as soon as a block waits; more only for blocks that take long
_STARVED_AFTER = 0.025  # seconds in which no host became free
_TOO_LONG = 1.0  # seconds that a block waits at most before there are more hosts, if there may be
_START_DELAYS = (0.0, 0.2, 1.0, 5.0)  # seconds before the next start, after none, one, two, ... failed in a row


class Hosts:
    """Keeps `warm` hosts ready, grows to `limit` on demand, and lets the rest go after `idle` seconds without work.

    `grace` is what a block gets between SIGTERM and SIGKILL; `memory_mb` limits the address space of a host (0: none).
    """

    def __init__(
        self, directory: Path, *, warm: int, limit: int, memory_mb: int = 0, grace: float = 2.0, idle: float = 30.0
    ) -> None:
        self._directory = directory.resolve()
        self._warm = warm
        self._limit = max(warm, limit)
        self._soon = min(self._limit, _SOON_PER_CPU * (os.cpu_count() or 1))
        self._memory_mb = memory_mb
        self._grace = grace
        self._idle_time = idle
        self._idle: list[tuple[float, Child]] = []  # with the time of last use, the most recent one last
        self._busy: set[Child] = set()
        self._outdated: set[Child] = set()
        self._waiting: dict[asyncio.Future[Child | Failed], float] = {}  # with the time since when, in that order
        self._freed_at = 0.0
        self._grow_timer: asyncio.TimerHandle | None = None
        self._starts: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        self._shrink_timer: asyncio.TimerHandle | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Start the warm hosts and wait for them. The thread that runs this event loop must outlive the hosts."""
        self._fill()
        await asyncio.gather(*self._starts)

    async def stop(self) -> None:
        """Cancel what is executed or waits, and return when every process is gone."""
        self._is_stopping = True
        if self._shrink_timer is not None:
            self._shrink_timer.cancel()
        if self._grow_timer is not None:
            self._grow_timer.cancel()
        self._fail_waiting(_not_executed(Reason.CANCELLED, "the runner stops"), len(self._waiting))
        for start in self._starts:
            start.cancel()
        for child in self._busy:
            child.cancel()
        self._dismiss_idle()
        while tasks := self._starts | self._ends:
            await asyncio.wait(tasks)

    async def run(
        self,
        call: Call,
        *,
        timeout: float | None,  # noqa: ASYNC109  (the block's own; it becomes an outcome, not an exception)
        on_log: OnLog,
        cancelled: asyncio.Event | None = None,
        ready_at: float | None = None,
    ) -> Outcome | Asked:
        """Execute one block in a host of its own; waits for a free one, first come, first served.

        The outcome is a value: nothing that user code does raises here. `timeout` counts from when a host has the call,
        the outcome's `queue_ms` from `ready_at` (seconds on the loop's clock) or, without it, from now.
        `on_log` gets every line in order; when it returns an awaitable, the host's output is not read further until
        that is done. Cancelling the caller kills the host.
        """
        clock = asyncio.get_running_loop().time
        ready_at = clock() if ready_at is None else ready_at
        child = await self._lend(cancelled)
        queue_ms = round((clock() - ready_at) * 1000)
        if isinstance(child, Failed):
            error = msgspec.structs.replace(child.error, block_id=call.block_id)
            return msgspec.structs.replace(child, error=error, queue_ms=queue_ms)
        try:
            outcome = await child.call(call, within=timeout, on_log=on_log, cancelled=cancelled)
        finally:
            self._take_back(child)
        return msgspec.structs.replace(outcome, queue_ms=queue_ms) if queue_ms else outcome

    def retire(self) -> None:
        """Replace every host, busy ones after their block: edited files and what they import are then loaded anew."""
        self._outdated |= self._busy
        self._dismiss_idle()
        self._fill()

    @property
    def limit(self) -> int:
        """How many blocks are executed at the same time at most."""
        return self._limit

    @property
    def size(self) -> int:
        """How many hosts there are: idle, busy and starting ones."""
        return len(self._idle) + len(self._busy) + len(self._starts)

    async def _lend(self, cancelled: asyncio.Event | None) -> Child | Failed:
        if self._is_stopping or (cancelled is not None and cancelled.is_set()):
            return _not_executed(Reason.CANCELLED, "cancelled before it was started")
        while self._idle:
            _, child = self._idle.pop()
            if child.is_usable:
                self._busy.add(child)
                return child
        return await self._wait(cancelled)

    async def _wait(self, cancelled: asyncio.Event | None) -> Child | Failed:
        waiter: asyncio.Future[Child | Failed] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = asyncio.get_running_loop().time()
        self._fill()
        self._watch_growth()
        watch = None if cancelled is None else asyncio.create_task(self._fail_when(cancelled, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and isinstance(child := waiter.result(), Child):
                self._take_back(child)
            raise
        finally:
            self._waiting.pop(waiter, None)
            if watch is not None:
                watch.cancel()

    async def _fail_when(self, cancelled: asyncio.Event, waiter: asyncio.Future[Child | Failed]) -> None:
        await cancelled.wait()
        if not waiter.done():
            del self._waiting[waiter]
            waiter.set_result(_not_executed(Reason.CANCELLED, "cancelled before it was started"))

    def _fail_waiting(self, failure: Failed, count: int) -> None:
        while count and (waiter := self._next_waiter()) is not None:
            if not waiter.done():
                waiter.set_result(failure)
                count -= 1

    def _next_waiter(self) -> asyncio.Future[Child | Failed] | None:
        waiter = next(iter(self._waiting), None)
        if waiter is not None:
            del self._waiting[waiter]
        return waiter

    def _take_back(self, child: Child) -> None:
        self._busy.discard(child)
        self._freed_at = asyncio.get_running_loop().time()
        if child.is_usable and child not in self._outdated and not self._is_stopping:
            self._offer(child)
        else:
            self._dismiss(child)
            self._fill()

    def _offer(self, child: Child) -> None:
        while (waiter := self._next_waiter()) is not None:
            if not waiter.done():
                self._busy.add(child)
                waiter.set_result(child)
                return
        self._idle.append((asyncio.get_running_loop().time(), child))
        if self._shrink_timer is None and self.size > self._warm:
            self._shrink_timer = asyncio.get_running_loop().call_later(self._idle_time, self._shrink)

    def _shrink(self) -> None:
        loop = asyncio.get_running_loop()
        unused_since = loop.time() - self._idle_time
        while self.size > self._warm and self._idle and self._idle[0][0] <= unused_since:
            self._dismiss(self._idle.pop(0)[1])
        self._shrink_timer = None
        if self.size > self._warm:
            pause = self._idle[0][0] - unused_since if self._idle else self._idle_time
            self._shrink_timer = loop.call_later(pause, self._shrink)

    def _fill(self) -> None:
        """Start what is missing: the warm ones, and for blocks that wait as many as keep the processors busy."""
        wanted = max(self._warm, min(len(self._busy) + len(self._waiting), self._soon))
        while self.size < wanted and not self._is_stopping:
            self._keep(self._starts, self._start_child())

    def _watch_growth(self) -> None:
        if self._grow_timer is None and self.size < self._limit:
            self._grow_timer = asyncio.get_running_loop().call_later(_STARVED_AFTER, self._grow)

    def _grow(self) -> None:
        """Start more hosts when those that are there let blocks wait: short blocks are faster with few hosts."""
        self._grow_timer = None
        if not self._waiting or self._is_stopping:
            return
        now = asyncio.get_running_loop().time()
        oldest = next(iter(self._waiting.values()))
        if now - max(self._freed_at, oldest) >= _STARVED_AFTER or now - oldest >= _TOO_LONG:
            wanted = min(self._limit - self.size, len(self._waiting) - len(self._starts))
            for _ in range(wanted):
                self._keep(self._starts, self._start_child())
        self._watch_growth()

    async def _start_child(self) -> None:
        await asyncio.sleep(_START_DELAYS[min(self._failed_starts, len(_START_DELAYS) - 1)])
        child = Child(grace=self._grace, on_exit=self._forget)
        try:
            is_ready = await child.start(self._directory, memory_mb=self._memory_mb)
            failure = None if is_ready else child.explain_exit()
        except OSError as error:
            failure = str(error)
        except asyncio.CancelledError:
            self._dismiss(child)
            raise
        if failure is None:
            self._failed_starts = 0
            self._offer(child)
        else:
            self._failed_starts += 1
            self._fail_waiting(_not_executed(Reason.HOST_DIED, f"no block host could be started: {failure}"), 1)

    def _dismiss_idle(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop()[1])

    def _dismiss(self, child: Child) -> None:
        self._outdated.discard(child)
        self._keep(self._ends, child.close())

    def _forget(self, child: Child) -> None:
        """Replace a host that died while it was idle; what a busy one executed is told to its caller."""
        self._idle = [(since, other) for since, other in self._idle if other is not child]
        self._fill()

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(lambda done: self._settle(tasks, done))

    def _settle(self, tasks: set[asyncio.Task[None]], done: asyncio.Task[None]) -> None:
        tasks.discard(done)
        self._fill()


def _not_executed(reason: Reason, message: str) -> Failed:
    return Failed(reason=reason, error=RunError(type=reason, message=message))
