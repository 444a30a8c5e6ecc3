"""One run, from its first block to its terminal state: the walk over its graph.

A block starts when all its upstream succeeded and their success is committed, so a block never works on an output that
a crash could still change. What user code does is an outcome, never an exception here.
"""

import asyncio
import random
from collections.abc import Iterable

import msgspec

from runner.context import EventBody
from runner.hosts import Hosts
from runner.ownership import Ownership, Reason
from runner.recorder import Page
from runner.remotes import Remotes
from runner.wire import Asked, Call, Failed, LogFrame, Outcome, Succeeded
from schemas.outputs import Output
from schemas.pipelines import Block, Definition
from schemas.runs import BegunBlock, Claimed, RunError
from schemas.states import BlockState, LogLevel, RunState

LONGEST_DELAY_S = 300.0
MOST_LOG_LINES = 10_000
MOST_LOG_CHARACTERS = 8 << 20
_NOT_SUCCESS = frozenset({BlockState.FAILED, BlockState.UPSTREAM_FAILED, BlockState.CANCELLED})


class Executor:
    """Walks the graph of one run; made for that run alone."""

    def __init__(
        self, definition: Definition, ownership: Ownership, *, page: Page, hosts: Hosts, remotes: Remotes
    ) -> None:
        self._definition = definition
        self._blocks = {block.id: block for block in definition.graph.blocks} if definition.graph else {}
        self._ownership = ownership
        self._run: Claimed = ownership.run
        self._page = page
        self._hosts = hosts
        self._remotes = remotes
        self._states: dict[str, BlockState] = {}
        self._outputs: dict[str, Output] = {}
        self._attempts: dict[str, int] = {}
        self._errors: list[RunError] = []
        self._log_lines = 0
        self._log_characters = 0
        self._is_log_full = False

    async def execute(self, begun: Iterable[BegunBlock] = ()) -> None:
        """Execute what is not done yet, and write the terminal state; raises LeaseLost when the run is not ours.

        When the ownership stops for another reason than a cancel, nothing terminal is written.
        """
        self._recall(begun)
        executing: set[asyncio.Task[None]] = set()
        try:
            while True:
                ready = self._take_ready()
                if len(ready) == 1 and not executing:  # most graphs are mostly chains, which need no task per block
                    await self._execute(ready[0])
                    continue
                executing |= {asyncio.create_task(self._execute(block)) for block in ready}
                if not executing:
                    break
                done, executing = await asyncio.wait(executing, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in executing:
                task.cancel()
            await asyncio.gather(*executing, return_exceptions=True)
        if self._ownership.may_write:
            self._finish()
            await self._page.commit()

    def _recall(self, begun: Iterable[BegunBlock]) -> None:
        """Take over from an earlier owner: what succeeded is done, the rest begins again with its next attempt."""
        for block in begun:
            self._attempts[block.block_id] = block.attempt
            if block.state is BlockState.SUCCESS and block.format is not None:
                self._states[block.block_id] = block.state
                self._outputs[block.block_id] = Output(block.format, block.data, block.object, None, block.size or 0)

    def _take_ready(self) -> list[Block]:
        """Choose the blocks that can start now, and give up those that never can."""
        if self._ownership.stopped.is_set():
            return []
        ready = []
        for block in self._blocks.values():
            if block.id in self._states:
                continue
            upstream = [self._states.get(name, BlockState.PENDING) for name in block.upstream]
            if any(state in _NOT_SUCCESS for state in upstream):
                self._settle(block, BlockState.UPSTREAM_FAILED)
            elif all(state is BlockState.SUCCESS for state in upstream):
                self._states[block.id] = BlockState.RUNNING
                ready.append(block)
        return ready

    async def _execute(self, block: Block) -> None:
        """Try a block until it succeeds, has no attempts left, or the run stops."""
        for failures in range(block.retries + 1):
            attempt = self._attempts[block.id] = self._attempts.get(block.id, 0) + 1
            self._page.block(block.id, BlockState.RUNNING, attempt)
            outcome = await self._call(block, attempt)
            if isinstance(outcome, Succeeded):
                return await self._succeed(block, attempt, outcome)
            if self._ownership.stopped.is_set():
                return self._settle(block, BlockState.CANCELLED, outcome)
            if failures == block.retries or not outcome.is_worth_retrying:
                self._errors.append(_located(outcome.error, block.id))
                return self._settle(block, BlockState.FAILED, outcome)
            self._page.block(
                block.id, BlockState.PENDING, attempt, error=outcome.error, duration_ms=outcome.duration_ms
            )
            if await self._stopped_within(_delay_s(block, failures)):
                return self._settle(block, BlockState.CANCELLED, outcome)
        return None

    async def _call(self, block: Block, attempt: int) -> Outcome:
        run = self._run
        call = Call(
            path=self._definition.path,
            version=self._definition.version,
            pipeline_id=run.pipeline_id,
            block_id=block.id,
            run_id=run.id,
            number=run.number,
            attempt=attempt,
            schedule_id=run.schedule_id,
            event_id=run.event_id,
            logical_date=run.logical_date,
            variables=bytes(run.variables),
            event=_event_body(run),
            inputs={name: self._outputs[name] for name in block.upstream},
        )

        def on_log(line: LogFrame) -> None:
            self._write_log(block.id, attempt, line)

        stopped = self._ownership.stopped
        outcome = await self._hosts.run(call, timeout=block.timeout, on_log=on_log, cancelled=stopped)
        if isinstance(outcome, Asked):
            return await self._remotes.resolve(call, outcome, cancelled=stopped, timeout=block.timeout)
        return outcome

    async def _succeed(self, block: Block, attempt: int, outcome: Succeeded) -> None:
        self._outputs[block.id] = outcome.output
        if not self._ownership.may_write:
            return
        self._page.block(
            block.id,
            BlockState.SUCCESS,
            attempt,
            row_count=outcome.row_count,
            duration_ms=outcome.duration_ms,
            output=outcome.output,
        )
        if any(block.id in other.upstream for other in self._blocks.values()):
            await self._page.commit()
        self._states[block.id] = BlockState.SUCCESS

    def _settle(self, block: Block, state: BlockState, outcome: Failed | None = None) -> None:
        """Write that a block ended without success."""
        self._states[block.id] = state
        if not self._ownership.may_write:
            return
        attempt = self._attempts.get(block.id, 0)
        error = _located(outcome.error, block.id) if outcome else None
        self._page.block(block.id, state, attempt, error=error, duration_ms=outcome.duration_ms if outcome else None)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._ownership.stopped.wait()
        except TimeoutError:
            return False
        return True

    def _finish(self) -> None:
        if all(self._states.get(name) is BlockState.SUCCESS for name in self._blocks):
            return self._page.run(RunState.SUCCESS, None)
        if self._ownership.reason is Reason.CANCELLED:
            for block in self._blocks.values():
                if block.id not in self._states:
                    self._settle(block, BlockState.CANCELLED)
            return self._page.run(RunState.CANCELLED, None)
        return self._page.run(RunState.FAILED, self._errors[0])

    def _write_log(self, block_id: str, attempt: int, line: LogFrame) -> None:
        """Write a log line, up to a bound per run; the last one says that it was reached."""
        if not self._ownership.may_write or self._is_log_full:
            return
        self._log_lines += 1
        self._log_characters += len(line.message)
        self._is_log_full = self._log_lines > MOST_LOG_LINES or self._log_characters > MOST_LOG_CHARACTERS
        if self._is_log_full:
            bound = f"{MOST_LOG_LINES} lines or {MOST_LOG_CHARACTERS >> 20} MiB"
            line = LogFrame(level=LogLevel.WARNING, message=f"log truncated: a run keeps {bound}")
        self._page.log(block_id, attempt, level=line.level, message=line.message, fields=line.fields)


def _event_body(run: Claimed) -> EventBody | None:
    if run.event_kind is None or run.event_body is None:
        return None
    return EventBody(kind=run.event_kind, body=run.event_body, content_type=run.event_content_type or "")


def _located(error: RunError, block_id: str) -> RunError:
    return msgspec.structs.replace(error, block_id=block_id)


def _delay_s(block: Block, failures: int) -> float:
    """Exponential back-off with full jitter on its upper half."""
    longest = min(block.retry_delay * 2.0**failures, LONGEST_DELAY_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311
