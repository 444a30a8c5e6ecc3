"""One block run, or the call of a callback: attempt after attempt in block hosts, until one of them counts."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from runner.context import EventBody
from runner.ownership import Ownership
from runner.recorder import Page
from runner.remotes import Remotes
from runner.spool import BlockHosts
from runner.wire import Asked, Call, Failed, LogFrame, Outcome, Reason, Report, Skipped, Succeeded
from schemas import tasks
from schemas.outputs import UNMAPPED, Output
from schemas.pipelines import Definition, Executable
from schemas.runs import Claimed, RunError
from schemas.states import BlockState, LogLevel

LONGEST_DELAY_S = 300.0
MOST_LOG_LINES = 10_000
MOST_LOG_CHARACTERS = 8 << 20


class Work(msgspec.Struct, kw_only=True):
    """What is to be executed, with what, and since when it waits (seconds on the loop's clock)."""

    step: Executable
    map_index: int = UNMAPPED
    inputs: dict[str, Output] = {}
    gathered: dict[str, list[Output | None]] = {}
    report: Report | None = None
    ready_at: float | None = None


class Ended(msgspec.Struct):
    """How it ended, in which attempt, with what."""

    state: BlockState
    attempt: int
    outcome: Outcome

    @property
    def error(self) -> RunError | None:
        return self.outcome.error if isinstance(self.outcome, Failed) else None


class Attempts:
    """Executes the blocks of one run; `on_pause` is called when one begins to wait outside of a block host."""

    def __init__(
        self,
        definition: Definition,
        ownership: Ownership,
        *,
        page: Page,
        hosts: BlockHosts,
        remotes: Remotes | None,
        on_pause: Callable[[], None],
    ) -> None:
        self._definition = definition
        self._ownership = ownership
        self._page = page
        self._hosts = hosts
        self._remotes = remotes
        self._on_pause = on_pause
        self._begun: dict[tuple[str, int], int] = {}
        self._log = _LogBound()
        self.paused = 0

    def recall(self, step_id: str, map_index: int, attempt: int) -> None:
        """Count on from the attempt that an earlier owner of the run has begun."""
        self._begun[step_id, map_index] = attempt

    def begun(self, step_id: str, map_index: int = UNMAPPED) -> int:
        """Tell the newest attempt of an earlier owner, 0 without one."""
        return self._begun.get((step_id, map_index), 0)

    async def execute(self, work: Work) -> Ended:
        """Try until it succeeds, has nothing to do, has no attempts left, or the run stops; a callback goes on then."""
        step, failures = work.step, 0
        attempt = self.begun(step.id, work.map_index)
        stopped = self._ownership.stopped if work.report is None else self._ownership.gone
        while True:
            attempt += 1
            self._page.block(step.id, BlockState.RUNNING, attempt, map_index=work.map_index)
            outcome = await self._call(work, attempt, stopped)
            work.ready_at = None
            if isinstance(outcome, Succeeded):
                return Ended(BlockState.SUCCESS, attempt, outcome)
            if isinstance(outcome, Skipped):
                return Ended(BlockState.SKIPPED, attempt, outcome)
            outcome = msgspec.structs.replace(outcome, error=_located(outcome.error, step.id))
            if stopped.is_set():
                return Ended(BlockState.CANCELLED, attempt, outcome)
            if failures == step.retries or not outcome.is_worth_retrying:
                return Ended(BlockState.FAILED, attempt, outcome)
            self.write(work, Ended(BlockState.PENDING, attempt, outcome))
            if await self._stopped_within(_delay_s(step, failures), stopped):
                return Ended(BlockState.CANCELLED, attempt, outcome)
            failures += 1

    def write(self, work: Work, ended: Ended) -> None:
        """Write how an attempt ended, with its output; the reason of a skipped block is a line of its log."""
        outcome = ended.outcome
        if isinstance(outcome, Skipped):
            line = LogFrame(level=LogLevel.INFO, message=f"skipped: {outcome.reason}" if outcome.reason else "skipped")
            self._write_log(work, ended.attempt, line)
        self._page.block(
            work.step.id,
            ended.state,
            ended.attempt,
            map_index=work.map_index,
            row_count=outcome.row_count if isinstance(outcome, Succeeded) else None,
            queue_ms=outcome.queue_ms,
            duration_ms=outcome.duration_ms,
            error=ended.error,
            output=outcome.output if isinstance(outcome, Succeeded) and work.report is None else None,
        )

    async def _call(self, work: Work, attempt: int, stopped: asyncio.Event) -> Outcome:
        """Have one attempt executed. An outcome that is not the end yet is to be awaited here, until it is one."""

        def on_log(line: LogFrame) -> None:
            self._write_log(work, attempt, line)

        call, limit = _call(self._definition, self._ownership.run, work, attempt), work.step.timeout
        outcome = await self._hosts.run(call, timeout=limit, on_log=on_log, cancelled=stopped, ready_at=work.ready_at)
        if not isinstance(outcome, Asked):
            return outcome
        if self._remotes is None:
            error = RunError(type=Reason.REMOTE_REFUSED, message=f"a dry run sends nothing to {outcome.url}")
            return Failed(reason=Reason.REMOTE_REFUSED, error=error)
        with self._pause():
            return await self._remotes.resolve(call, outcome, cancelled=stopped, timeout=limit)

    async def _stopped_within(self, seconds: float, stopped: asyncio.Event) -> bool:
        with self._pause():
            return await tasks.set_within(stopped, seconds)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Wait without a block host, so that others of the run may begin."""
        self.paused += 1
        self._on_pause()
        try:
            yield
        finally:
            self.paused -= 1

    def _write_log(self, work: Work, attempt: int, line: LogFrame) -> None:
        if self._ownership.may_write and (kept := self._log.bound(line)):
            index, words, fields = work.map_index, kept.message, kept.fields
            self._page.log(work.step.id, attempt, map_index=index, level=kept.level, message=words, fields=fields)


class _LogBound:
    """Lets log lines pass, up to a bound per run; the last one says that it was reached."""

    def __init__(self) -> None:
        self._lines = 0
        self._characters = 0
        self._is_full = False

    def bound(self, line: LogFrame) -> LogFrame | None:
        if self._is_full:
            return None
        self._lines += 1
        self._characters += len(line.message)
        self._is_full = self._lines > MOST_LOG_LINES or self._characters > MOST_LOG_CHARACTERS
        if not self._is_full:
            return line
        bound = f"{MOST_LOG_LINES} lines or {MOST_LOG_CHARACTERS >> 20} MiB"
        return LogFrame(level=LogLevel.WARNING, message=f"log truncated: a run keeps {bound}")


def _call(definition: Definition, run: Claimed, work: Work, attempt: int) -> Call:
    return Call(
        path=definition.path,
        version=definition.version,
        pipeline_id=run.pipeline_id,
        block_id=work.step.id,
        run_id=run.id,
        number=run.number,
        attempt=attempt,
        schedule_id=run.schedule_id,
        event_id=run.event_id,
        logical_date=run.logical_date,
        variables=bytes(run.variables),
        event=_event_body(run),
        inputs=work.inputs,
        gathered=work.gathered,
        map_index=None if work.map_index == UNMAPPED else work.map_index,
        report=work.report,
    )


def _event_body(run: Claimed) -> EventBody | None:
    if run.event_kind is None or run.event_body is None:
        return None
    return EventBody(
        kind=run.event_kind,
        body=run.event_body,
        content_type=run.event_content_type or "",
        object=run.event_object,
        size=run.event_size or 0,
        sha256=run.event_sha256 or "",
    )


def _located(error: RunError, step_id: str) -> RunError:
    return error if error.block_id == step_id else msgspec.structs.replace(error, block_id=step_id)


def _delay_s(step: Executable, failures: int) -> float:
    """Exponential back-off with full jitter on its upper half."""
    longest = min(step.retry_delay * 2.0**failures, LONGEST_DELAY_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311
