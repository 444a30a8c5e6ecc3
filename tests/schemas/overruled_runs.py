"""The same history with people in it, who resume runs, run them again, and say by hand what became of them."""

import uuid

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schemas.errors import Conflict
from schemas.queue import Ring
from schemas.runs import RunError, Trigger
from schemas.states import TERMINAL_RUN_STATES as TERMINAL
from schemas.states import BlockState, RunState
from schemas.store import control, leases, runs
from schemas.store.db import Database
from tests.schemas.history_of_runs import BLOCK_STATES, PICK, PIPELINE, History
from tests.schemas.model_of_runs import ModelRun, Pen


class Overruled(History):
    """One history of a few runs, two runners and some people."""

    @rule(state=st.sampled_from([None, *sorted(TERMINAL)]), blocks=st.lists(st.sampled_from(BLOCK_STATES), max_size=3))
    def execute(self, state: RunState | None, blocks: list[BlockState]) -> None:
        """Do in one step what takes four: most of what people overrule has been executed before."""
        run_id, runner = self.do(runs.create(self.database, PIPELINE, Trigger())), self.runners[0]
        self.runs[run_id] = ModelRun()
        self.do(leases.claim(self.database, [Ring(run_id, 0)], runner_id=runner, versions={PIPELINE: "v1"}))
        self.take(run_id, runner)
        pen = Pen(self.claims[-1])
        for block_id, block_state in zip("abc", blocks, strict=False):
            pen.block(block_id, block_state)
        if state is not None:
            pen.finish(state)
        if blocks or state is not None:
            self.record([pen])

    @precondition(lambda self: self.runs)
    @rule(which=PICK, state=st.sampled_from([RunState.FAILED, RunState.CANCELLED, None]))
    def resume(self, which: int, state: RunState | None) -> None:
        run_id = self.pick_run(which, state)
        run = self.runs[run_id]
        active = [new for new, other in self.runs.items() if other.resumed == run_id and other.state not in TERMINAL]
        if active:
            with pytest.raises(Conflict) as refused:
                self.do(control.resume(self.database, run_id, note=None))
            assert refused.value.extra["run_id"] == str(active[0])
            return

        ring = self.do(control.resume(self.database, run_id, note=None))

        assert (ring is not None) == (run.state in (RunState.FAILED, RunState.CANCELLED))
        if ring is not None:
            done = {block: found for block, found in run.blocks.items() if found[0] is BlockState.SUCCESS}
            self.runs[ring.run_id] = ModelRun(seq=1 + len(done), blocks=done, resumed=run_id)

    @precondition(lambda self: self.runs)
    @rule(which=PICK, state=st.sampled_from([*sorted(TERMINAL), None]))
    def rerun(self, which: int, state: RunState | None) -> None:
        run_id = self.pick_run(which, state)

        ring = self.do(control.rerun(self.database, run_id, variables={}, note=None))

        assert (ring is not None) == (self.runs[run_id].state in TERMINAL)
        if ring is not None:
            self.runs[ring.run_id] = ModelRun()

    @precondition(lambda self: self.runs)
    @rule(which=PICK, running=st.booleans(), state=st.sampled_from([RunState.SUCCESS, RunState.FAILED]))
    def mark(self, which: int, running: bool, state: RunState) -> None:
        run_id = self.pick_run(which, RunState.RUNNING if running else None)
        run = self.runs[run_id]

        before = self.do(mark_by_hand(self.database, run_id, state))

        assert before == (None if run.state is state else run.state)
        if before is not None:
            executing = {block: found[1] for block, found in run.blocks.items() if found[0] is BlockState.RUNNING}
            run.blocks = run.blocks | {block: (BlockState.CANCELLED, attempt) for block, attempt in executing.items()}
            run.overruled += before in TERMINAL
            run.epoch += 1
            run.seq += len(executing)
            run.move(state)


async def mark_by_hand(database: Database, run_id: uuid.UUID, state: RunState) -> RunState | None:
    error = RunError(type="Marked", message="by hand") if state is RunState.FAILED else None
    async with database.transaction() as transaction:
        return await control.mark(transaction, run_id, state, error=error, note=None)
