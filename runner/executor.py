"""One run, from its first block to its terminal state: the walk over its graph, and the callbacks on the way.

A block starts when those before it have ended as its rule wants, and that is committed, so a block never works on an
output that a crash could still change. What user code does is an outcome, never an exception here.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any

from runner import mapping
from runner.attempts import Attempts, Ended, Work
from runner.mapping import NOTHING, Items
from runner.ownership import Ownership, Reason
from runner.recorder import Page
from runner.remotes import Remotes
from runner.spool import Carrier
from runner.walk import ENDED, Walk
from runner.wire import Refused, Report, Succeeded
from schemas.outputs import UNMAPPED, Output
from schemas.pipelines import Block, Definition, Graph
from schemas.runs import BegunBlock, Claimed, RunError
from schemas.states import BlockState, CallbackOn, Origin, RunState

_EVENTS: dict[str, CallbackOn] = {
    BlockState.SUCCESS: CallbackOn.SUCCESS,
    BlockState.FAILED: CallbackOn.FAILURE,
    BlockState.CANCELLED: CallbackOn.CANCEL,
}
_STAYS = ENDED - {BlockState.CANCELLED}


class Executor:
    """Walks the graph of one run; made for that run alone."""

    def __init__(
        self,
        definition: Definition,
        ownership: Ownership,
        *,
        page: Page,
        hosts: Carrier,
        remotes: Remotes | None,
        queues: Collection[str],
    ) -> None:
        self._definition = definition
        self._queues = queues
        self._elsewhere: str | None = None
        self._graph = definition.graph or Graph(())
        self._ownership = ownership
        self._page = page
        self._hosts = hosts
        self._most = hosts.limit
        self._news = asyncio.Event()
        self._attempts = Attempts(
            definition, ownership, page=page, hosts=hosts, remotes=remotes, on_pause=self._news.set
        )
        self._walk = Walk(self._graph.blocks)
        self._outputs: dict[str, Output] = {}
        self._items: dict[str, Items] = {}
        self._done_items: dict[str, list[BegunBlock]] = {}
        self._called: set[str] = set()
        self._errors: list[RunError] = []
        self._waiting: deque[Work] = deque()
        self._executing: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def execute(self, begun: Sequence[BegunBlock] = ()) -> str | None:
        """Execute what is not done yet, and write the terminal state; raises LeaseLost when the run is not ours.

        When all that is left has to wait for a block of a queue that is not served here, that queue is returned. When
        the ownership stops because the run is no longer ours, nothing terminal is written.
        """
        if begun:
            self._recall(begun)
        await self._execute_all()
        if self._elsewhere is not None and not self._ownership.stopped.is_set():
            await self._page.commit()
            return self._elsewhere
        if self._ownership.may_write:
            await self._finish()
        return None

    async def _finish(self) -> None:
        state, error = self._conclude()
        if self._call_back(None, state, error) or self._waiting:
            await self._page.commit()
            await self._execute_all()
        if self._ownership.may_write:
            self._page.run(state, error)
            await self._page.commit()

    async def _execute_all(self) -> None:
        """Execute what may start until nothing is left of it; raises what breaks, never what user code raises."""
        try:
            while True:
                self._news.clear()
                self._take_ready()
                if len(self._waiting) == 1 and not self._executing:  # most graphs are mostly chains: no task per block
                    await self._execute(self._waiting.popleft())
                    continue
                while self._waiting and len(self._executing) - self._attempts.paused < self._most:
                    self._start(self._execute(self._waiting.popleft()))
                if not self._executing:
                    break
                await self._news.wait()
                if self._failure is not None:
                    raise self._failure
        finally:
            for task in self._executing:
                task.cancel()
            if self._executing:
                await asyncio.gather(*self._executing, return_exceptions=True)

    def _take_ready(self) -> None:
        """Let the blocks that may start wait before the items of mapped ones; after a stop callbacks alone go on."""
        if self._ownership.stopped.is_set():
            goes_on = self._ownership.may_write
            self._waiting = deque(work for work in self._waiting if goes_on and work.report is not None)
            return
        if ready := self._walk.take_ready():
            now = asyncio.get_running_loop().time()
            self._waiting.extendleft([self._work(block, now) for block in reversed(ready) if self._is_served(block)])

    def _is_served(self, block: Block) -> bool:
        """Whether a ready block may execute here; if not, remember where it may."""
        queue = block.queue or self._definition.queue
        if queue in self._queues:
            return True
        self._elsewhere = queue
        return False

    def _work(self, block: Block, now: float) -> Work:
        work = Work(step=block, ready_at=now)
        for name in block.inputs:
            is_mapped = name in self._items and self._walk.states[name] is BlockState.SUCCESS
            if is_mapped:
                work.gathered[name] = self._items[name].outputs
            else:
                work.inputs[name] = self._outputs.get(name, NOTHING)
        return work

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._executing.add(task)
        task.add_done_callback(self._settle_task)

    def _settle_task(self, task: asyncio.Task[None]) -> None:
        self._executing.discard(task)
        self._news.set()
        if not task.cancelled():
            self._failure = self._failure or task.exception()

    async def _execute(self, work: Work) -> None:
        block = work.step
        if isinstance(block, Block) and block.map is not None and work.map_index == UNMAPPED:
            return await self._spread(work, block, block.map)
        ended = await self._attempts.execute(work)
        if self._ownership.may_write:
            self._attempts.write(work, ended)
            if isinstance(block, Block):
                await (self._end(block, ended) if work.map_index == UNMAPPED else self._end_item(work, ended))
        return None

    async def _end(self, block: Block, ended: Ended) -> None:
        """Let go on what waited for this block."""
        if isinstance(ended.outcome, Succeeded):
            self._outputs[block.id] = ended.outcome.output
            if ended.outcome.chosen is not None:
                self._walk.choose(block.id, ended.outcome.chosen)
                self._give_up()  # in the same commit: a decision is not made twice
        await self._settle(block, ended.state, ended.error)

    async def _settle(self, block: Block, state: BlockState, error: RunError | None) -> None:
        if state is BlockState.FAILED and error is not None:
            self._errors.append(error)
        if self._graph.callbacks or not self._walk.is_last(block.id):
            await self._page.commit()
        self._walk.end(block.id, state)
        self._give_up()
        self._call_back(block.id, state, error)

    def _give_up(self) -> None:
        for block, state in self._walk.take_given_up():
            self._page.block(block.id, state, self._attempts.begun(block.id))

    async def _spread(self, work: Work, block: Block, source: str) -> None:
        """Begin a mapped block: each item of its list is a block run of its own."""
        attempt = self._attempts.begun(block.id) + 1
        try:
            given = await self._given(work, source)
        except Refused as refusal:
            error = RunError(type=refusal.reason, message=str(refusal), block_id=block.id)
            self._page.block(block.id, BlockState.FAILED, attempt, error=error)
            return await self._settle(block, BlockState.FAILED, error)
        now = asyncio.get_running_loop().time()
        items = self._items[block.id] = Items(given, since=now)
        items.recall(self._done_items.pop(block.id, ()))
        self._page.block(block.id, BlockState.RUNNING, attempt, row_count=len(given))
        for index in items.open:
            inputs = work.inputs | {source: given[index]}
            gathered = {name: outputs for name, outputs in work.gathered.items() if name != source}
            self._waiting.append(Work(step=block, map_index=index, inputs=inputs, gathered=gathered, ready_at=now))
        return await self._end_mapped(block) if items.have_ended else None

    async def _given(self, work: Work, source: str) -> list[Output]:
        if source in work.gathered:
            return [NOTHING if output is None else output for output in work.gathered[source]]
        output = await self._hosts.load(work.inputs[source])
        return mapping.split(output, block_id=work.step.id, source=source)

    async def _end_item(self, work: Work, ended: Ended) -> None:
        items, outcome = self._items[work.step.id], ended.outcome
        output = outcome.output if isinstance(outcome, Succeeded) else None
        if items.end(work.map_index, ended.state, output=output, error=ended.error):
            await self._end_mapped(self._walk.blocks[work.step.id])

    async def _end_mapped(self, block: Block) -> None:
        items = self._items[block.id]
        self._page.block(
            block.id,
            items.state,
            self._attempts.begun(block.id) + 1,
            row_count=len(items.given),
            duration_ms=round((asyncio.get_running_loop().time() - items.since) * 1000),
            error=items.error,
        )
        await self._settle(block, items.state, items.error)

    def _call_back(self, block_id: str | None, state: BlockState | RunState, error: RunError | None) -> bool:
        """Let the callbacks of this end wait before everything else, and tell whether there are any."""
        if not self._graph.callbacks or state not in _EVENTS:
            return False
        called = [
            callback
            for callback in self._graph.callbacks
            if (callback.block, callback.on) == (block_id, _EVENTS[state]) and callback.id not in self._called
        ]
        report = Report(state=state, error=error, about=block_id)
        self._called.update(callback.id for callback in called)
        self._waiting.extendleft(Work(step=callback, report=report) for callback in called)
        return bool(called)

    def _conclude(self) -> tuple[RunState, RunError | None]:
        """Say how the run ends. A block that failed fails it, whatever other blocks made of that."""
        open_blocks = self._walk.open_blocks()
        for block in open_blocks:
            if block.id in self._items:
                self._cancel_mapped(block)
            else:
                self._page.block(block.id, BlockState.CANCELLED, self._attempts.begun(block.id))
        if open_blocks or BlockState.CANCELLED in self._walk.states.values():
            if self._ownership.reason is Reason.TIMED_OUT:
                return RunState.FAILED, _timeout(self._ownership.run)
            return RunState.CANCELLED, None
        return (RunState.FAILED, self._errors[0]) if self._errors else (RunState.SUCCESS, None)

    def _cancel_mapped(self, block: Block) -> None:
        """End a mapped block, and the items that an earlier owner of the run has begun and nobody goes on with."""
        items, attempt = self._items[block.id], self._attempts.begun(block.id) + 1
        for index in items.open:
            if begun := self._attempts.begun(block.id, index):
                self._page.block(block.id, BlockState.CANCELLED, begun, map_index=index)
        self._page.block(block.id, BlockState.CANCELLED, attempt, row_count=len(items.given))
        self._call_back(block.id, BlockState.CANCELLED, None)

    def _recall(self, begun: Iterable[BegunBlock]) -> None:
        """Take over from an earlier owner: what has ended stays so, the rest begins again with its next attempt."""
        blocks = {block.id: block for block in self._graph.blocks}
        ended: dict[str, BegunBlock] = {}
        for row in begun:
            self._attempts.recall(row.block_id, row.map_index, row.attempt)
            block = blocks.get(row.block_id)
            if row.state not in _STAYS:
                continue
            if block is None:
                self._called.add(row.block_id)
            elif row.map_index != UNMAPPED:
                self._done_items.setdefault(block.id, []).append(row)
            elif row.state is not BlockState.SUCCESS or (row.output is None) == (block.map is not None):
                ended[block.id] = row
        self._forget_what_comes_again(ended)
        self._walk = Walk(self._graph.blocks, {block_id: row.state for block_id, row in ended.items()})
        for block_id, row in ended.items():
            self._remember(blocks[block_id], row)
        self._give_up()

    def _forget_what_comes_again(self, ended: dict[str, BegunBlock]) -> None:
        """In a resumed run, execute again what is behind a block that is: it went on without that block's success.

        What was skipped stays so, since a branch is not taken twice.
        """
        if self._ownership.run.origin is not Origin.RESUME:
            return
        for block in self._graph.blocks:
            if any(name not in ended for name in block.upstream):
                self._done_items.pop(block.id, None)
                if block.id in ended and ended[block.id].state is BlockState.SUCCESS:
                    del ended[block.id]

    def _remember(self, block: Block, row: BegunBlock) -> None:
        if row.output is not None:
            self._outputs[block.id] = row.output
        if block.map is not None:
            done = self._done_items.pop(block.id, [])
            items = self._items[block.id] = Items([NOTHING] * (1 + max((item.map_index for item in done), default=-1)))
            items.recall(done)
        if row.failure is not None and row.state is BlockState.FAILED:
            self._errors.append(row.failure)
        self._call_back(block.id, row.state, row.failure)


def _timeout(run: Claimed) -> RunError:
    return RunError(type="RunTimeout", message=f"The run took longer than {run.run_timeout_s:g} s.")
