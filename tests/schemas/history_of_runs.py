"""The steps that the database and a model of it both take, and what must be true of them after each.

Whoever once claimed a run may write at any later time, as a runner taken for dead does; it must change nothing.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.errors import Conflict
from schemas.events import Delivery
from schemas.ids import new_id
from schemas.payload import Kind
from schemas.queue import Ring
from schemas.runs import Trigger
from schemas.states import TERMINAL_RUN_STATES as TERMINAL
from schemas.states import BlockState, RunState, Verdict
from schemas.store import events, leases, runs
from schemas.store.db import Database
from tests.schemas.model_of_runs import Claim, ModelRun, Pen, send

PIPELINE = "model"
LONG_S = 1e6
MAX_ATTEMPTS = 5
HISTORY = """
    SELECT run_id, array_agg(seq ORDER BY seq) AS seqs,
           array_agg(state ORDER BY seq) FILTER (WHERE kind = 'run') AS states
    FROM (SELECT run_id, seq, kind, state FROM changes UNION ALL SELECT run_id, seq, 'log', NULL FROM logs) AS told
    GROUP BY run_id"""
BLOCKS = """
    SELECT b.run_id, b.block_id, b.state, b.attempt, o.run_id IS NOT NULL AS has_output
    FROM block_runs b LEFT JOIN block_outputs o USING (run_id, block_id, map_index)"""
PICK = st.integers(0, 5)
NTH = st.integers(0, 1)
BLOCK_STATES = [BlockState.SUCCESS, BlockState.RUNNING]
TABLES = ("runs", "runners", "events", "event_keys", "changes", "logs", "block_runs", "block_outputs")


class History(RuleBasedStateMachine):
    """One history of a few runs and two runners; whoever plays it gives it a database with a schedule."""

    database: ClassVar[Database]
    loop: ClassVar[asyncio.Runner]
    schedule_id: ClassVar[uuid.UUID]

    def __init__(self) -> None:
        super().__init__()
        for table in TABLES:
            self.do(self.database.execute(f"DELETE FROM {table}"))
        self.runs: dict[uuid.UUID, ModelRun] = {}
        self.keys: dict[str, Delivery] = {}
        self.run_keys: dict[str, uuid.UUID] = {}
        self.runners: list[uuid.UUID] = []
        self.killed: set[uuid.UUID] = set()
        self.claims: list[Claim] = []
        self.written: list[Pen] = []
        for _ in range(2):
            self.register()

    def do(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def register(self) -> None:
        runner = uuid.uuid4()
        self.do(leases.register(self.database, runner, name="model", lease_s=LONG_S))
        self.runners.append(runner)

    def owned(self, runner: uuid.UUID) -> set[uuid.UUID]:
        return {run_id for run_id, run in self.runs.items() if run.owner == runner}

    def pick_run(self, which: int, state: RunState | None) -> uuid.UUID:
        """Choose a run, in this state if there is any."""
        wanted = [run_id for run_id, run in self.runs.items() if run.state is state] or list(self.runs)
        return wanted[which % len(wanted)]

    def pick_claim(self, which: int) -> Claim:
        return self.claims[-1 - which % len(self.claims)]

    def is_owner(self, claim: Claim) -> bool:
        run = self.runs[claim.run_id]
        return run.state is RunState.RUNNING and run.epoch == claim.epoch

    def delivery(self, key: str) -> Delivery:
        return Delivery(
            event_id=new_id(),
            schedule_id=self.schedule_id,
            source="generic",
            verdict=Verdict.ACCEPTED,
            **dict.fromkeys(("reason_code", "reason", "event_type", "observed", "rules_id"), None),
            dedupe_key=key,
            content_type="application/json",
            kind=Kind.JSON,
            **dict.fromkeys(("headers", "body", "timings"), b"{}"),
            query="",
            size=2,
            sha256=hashlib.sha256(b"{}").digest(),
            run_id=new_id(),
            pipeline_id=PIPELINE,
            variables=msgspec.Raw(b"{}"),
            queue="default",
        )

    @rule(key=st.sampled_from("ab"), again=st.booleans())
    def deliver(self, key: str, again: bool) -> None:
        batch = [self.delivery(key) for _ in range(2 if again else 1)]

        receipts = self.do(events.ingest(self.database, batch))

        is_first = key not in self.keys
        winner = self.keys.setdefault(key, batch[0])
        assert [receipt.event_id for receipt in receipts] == [winner.event_id] * len(batch)
        assert [receipt.is_duplicate for receipt in receipts] == [not is_first, True][: len(batch)]
        assert [bool(receipt.numbers) for receipt in receipts] == [is_first, False][: len(batch)]
        assert winner.run_id is not None
        if is_first:
            self.runs[winner.run_id] = ModelRun()

    @precondition(lambda self: self.keys)
    @rule(key=st.sampled_from("ab"))
    def deliver_what_was_committed_unheard(self, key: str) -> None:
        if winner := self.keys.get(key):
            receipt = self.do(events.ingest(self.database, [winner]))[0]

            assert (receipt.event_id, receipt.is_duplicate, receipt.numbers) == (winner.event_id, False, {})

    @rule(key=st.sampled_from("xy"))
    def trigger(self, key: str) -> None:
        if first := self.run_keys.get(key):
            with pytest.raises(Conflict) as refused:
                self.do(runs.create(self.database, PIPELINE, Trigger(run_key=key)))
            assert refused.value.extra["run_id"] == str(first)
        else:
            self.run_keys[key] = run_id = self.do(runs.create(self.database, PIPELINE, Trigger(run_key=key)))
            self.runs[run_id] = ModelRun()

    @precondition(lambda self: self.runs)
    @rule(which=PICK, queued=st.sampled_from([True, True, False]), nth=NTH, rings_ago=st.sampled_from([0, 0, 0, 1]))
    def claim(self, which: int, queued: bool, nth: int, rings_ago: int) -> None:
        run_id = self.pick_run(which, RunState.QUEUED if queued else None)
        run, runner = self.runs[run_id], self.runners[nth]

        ring = Ring(run_id, run.dispatch - rings_ago)
        claimed = self.do(leases.claim(self.database, [ring], runner_id=runner, versions={PIPELINE: "v1"}))

        may = run.state is RunState.QUEUED and not run.cancel and rings_ago == 0
        assert [found.id for found in claimed] == ([run_id] if may else [])
        if may:
            self.take(run_id, runner)
            assert (claimed[0].epoch, claimed[0].attempt, claimed[0].seq) == (run.epoch, run.attempt, run.seq)

    @precondition(lambda self: any(run.owner for run in self.runs.values()))
    @rule(nth=NTH)
    def beat(self, nth: int) -> None:
        runner = self.runners[nth]
        if runner not in self.killed:
            heard = self.do(leases.beat(self.database, runner, lease_s=LONG_S))

            assert heard is not None
            assert heard.owned == self.owned(runner)
            assert heard.cancel == {run_id for run_id in self.owned(runner) if self.runs[run_id].cancel}

    @precondition(lambda self: self.claims)
    @rule(which=PICK, block=st.sampled_from("abc"), state=st.sampled_from(BLOCK_STATES), with_log=st.booleans())
    def record_a_block(self, which: int, block: str, state: BlockState, with_log: bool) -> None:
        pen = Pen(self.pick_claim(which))
        if with_log:
            pen.log()
        pen.block(block, state)
        self.record([pen])

    @precondition(lambda self: self.claims)
    @rule(which=PICK, another=PICK, block=st.sampled_from("abc"))
    def record_blocks_of_two_runs(self, which: int, another: int, block: str) -> None:
        one, other = self.pick_claim(which), self.pick_claim(another)
        pens = [Pen(one), Pen(other)] if one.run_id != other.run_id else [Pen(one)]
        for pen in pens:
            pen.block(block)
        self.record(pens)

    @precondition(lambda self: self.claims)
    @rule(which=PICK, state=st.sampled_from(sorted(TERMINAL)), block=st.sampled_from([None, "a"]))
    def finish(self, which: int, state: RunState, block: str | None) -> None:
        pen = Pen(self.pick_claim(which))
        if block:
            pen.block(block)
        pen.finish(state)
        self.record([pen])

    @precondition(lambda self: self.written)
    @rule()
    def record_what_was_committed_unheard(self) -> None:
        if self.runs[self.written[-1].claim.run_id].epoch == self.written[-1].claim.epoch:
            pen = self.written[-1]

            assert self.do(send(self.database, [pen])) == {pen.claim.run_id}

    @precondition(lambda self: self.runs)
    @rule(which=PICK, running=st.sampled_from([True, True, False]))
    def cancel(self, which: int, running: bool) -> None:
        run_id = self.pick_run(which, RunState.RUNNING if running else None)
        run = self.runs[run_id]
        state = self.do(runs.cancel(self.database, run_id))

        if run.state in TERMINAL:
            assert state is None
            return
        run.cancel = True
        if run.state is RunState.QUEUED:
            run.epoch += 1
            run.move(RunState.CANCELLED)
        assert state is run.state

    @precondition(lambda self: self.claims)
    @rule(which=PICK)
    def release(self, which: int) -> None:
        claim = self.pick_claim(which)
        run = self.runs[claim.run_id]
        rings = self.do(leases.release(self.database, claim.runner, [claim.run_id]))

        if run.owner != claim.runner:
            assert rings == []
            return
        run.epoch += 1
        run.dispatch += 1
        run.attempt -= 0 if run.cancel else 1
        run.move(RunState.CANCELLED if run.cancel else RunState.QUEUED)
        assert [(ring.run_id, ring.dispatch) for ring in rings] == [(claim.run_id, run.dispatch)]

    @precondition(lambda self: any(run.owner for run in self.runs.values()))
    @rule(nth=NTH)
    def kill(self, nth: int) -> None:
        self.killed.add(self.runners[nth])
        self.do(
            self.database.execute(
                "UPDATE runners SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE id = $1",
                self.runners[nth],
            )
        )

    @precondition(lambda self: self.killed)
    @rule()
    def sweep(self) -> None:
        dead = self.do(leases.find_dead_runners(self.database, lease_s=0.0, silence_s=LONG_S))
        assert set(dead) == self.killed
        rings, ended = self.do(leases.reclaim(self.database, dead))
        self.do(leases.bury(self.database, dead))

        orphans = [run_id for runner in dead for run_id in self.owned(runner)]
        for run in (self.runs[run_id] for run_id in orphans):
            run.epoch += 1
            run.dispatch += 1
            lost = RunState.FAILED if run.attempt >= MAX_ATTEMPTS else RunState.QUEUED
            run.move(RunState.CANCELLED if run.cancel else lost)
        assert {ring.run_id: ring.dispatch for ring in rings} == {
            run_id: self.runs[run_id].dispatch for run_id in orphans if self.runs[run_id].state is RunState.QUEUED
        }
        assert set(ended) == {run_id for run_id in orphans if self.runs[run_id].state in TERMINAL}
        for runner in dead:
            assert self.do(leases.beat(self.database, runner, lease_s=LONG_S)) is None
            self.killed.remove(runner)
            self.runners.remove(runner)
            self.register()

    @precondition(lambda self: self.runs)
    @rule()
    def look_for_what_is_due(self) -> None:
        due = self.do(leases.find_due(self.database, [PIPELINE], older_than_s=-LONG_S))

        waiting = {run_id: run.dispatch for run_id, run in self.runs.items() if run.state is RunState.QUEUED}
        assert {ring.run_id: ring.dispatch for ring in due} == waiting

    def take(self, run_id: uuid.UUID, runner: uuid.UUID) -> None:
        """Let the model know of a claim."""
        run = self.runs[run_id]
        run.epoch += 1
        run.attempt += 1
        run.move(RunState.RUNNING, owner=runner)
        self.claims.append(Claim(run_id, runner, run.epoch, run.seq))

    def record(self, pens: Sequence[Pen]) -> None:
        """Write, and expect that only the owners' lines are there."""
        applied = self.do(send(self.database, pens))

        owners = [pen for pen in pens if self.is_owner(pen.claim)]
        assert applied == {pen.claim.run_id for pen in owners}
        for pen in owners:
            run = self.runs[pen.claim.run_id]
            run.blocks = run.blocks | {entry.block_id: (entry.state, entry.attempt) for entry in pen.blocks}
            run.seq = pen.seq
            if pen.state is not None:
                run.state, run.owner, run.told = pen.state, None, [*run.told, pen.state]
            self.written.append(pen)

    @invariant()
    def database_and_model_agree(self) -> None:
        found = {
            row["id"]: tuple(row)[1:]
            for row in self.do(
                self.database.fetch(
                    "SELECT id, state, epoch, dispatch, seq, attempt, lease_owner, finished_at IS NOT NULL FROM runs"
                )
            )
        }
        assert found == {
            run_id: (run.state, run.epoch, run.dispatch, run.seq, run.attempt, run.owner, run.state in TERMINAL)
            for run_id, run in self.runs.items()
        }
        blocks = self.do(self.database.fetch(BLOCKS))
        assert {(row["run_id"], row["block_id"]): (row["state"], row["attempt"]) for row in blocks} == {
            (run_id, block): found for run_id, run in self.runs.items() for block, found in run.blocks.items()
        }
        assert all(row["has_output"] for row in blocks if row["state"] == BlockState.SUCCESS)

    @invariant()
    def history_is_dense_and_ends_once(self) -> None:
        history = {row["run_id"]: row for row in self.do(self.database.fetch(HISTORY))}
        assert set(history) == set(self.runs)
        for run_id, run in self.runs.items():
            assert history[run_id]["seqs"] == list(range(1, run.seq + 1))
            assert history[run_id]["states"] == run.told
            ends = sum(state in TERMINAL for state in history[run_id]["states"])
            assert ends == (run.state in TERMINAL) + run.overruled

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        """What is queued can be claimed, what runs has an owner whom the sweeper knows."""
        for run in self.runs.values():
            assert not (run.state is RunState.QUEUED and run.cancel)
            assert (run.state is RunState.RUNNING) == (run.owner in self.runners)
