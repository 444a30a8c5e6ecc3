"""A model of who may start under limits and queues, in a few dicts, and the steps that it and the database take."""

import asyncio
import uuid
from collections import Counter
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.ids import new_id
from schemas.queue import Ring
from schemas.states import RunState
from schemas.store import leases
from schemas.store.db import Database

LIMITED, FREE = "limited", "free"
EVER_S = -1e6
LIMIT = 3
QUEUES = {"default": ("default",), "gpu": ("gpu",), "both": ("default", "gpu")}
PICK = st.integers(0, 9)


class Lane(msgspec.Struct, frozen=True):
    """Where runs wait: of which pipeline, under which limits of its own."""

    pipeline_id: str
    schedule_id: uuid.UUID | None = None
    backfill_id: uuid.UUID | None = None


class Waiting(msgspec.Struct):
    """What the model knows of a run; who has begun holds a place under every limit until it ends."""

    lane: Lane
    queue: str
    state: RunState = RunState.QUEUED
    has_begun: bool = False
    epoch: int = 0
    dispatch: int = 0


class Limits(RuleBasedStateMachine):
    """One history of a pipeline under limits and one without; whoever plays it gives it a database with both."""

    database: ClassVar[Database]
    loop: ClassVar[asyncio.Runner]
    lanes: ClassVar[list[Lane]]
    limits: ClassVar[dict[str | uuid.UUID, int]]
    runners: ClassVar[dict[str, uuid.UUID]]

    def __init__(self) -> None:
        super().__init__()
        for table in ("runs", "changes", "turns"):
            self.do(self.database.execute(f"DELETE FROM {table}"))
        self.runs: dict[uuid.UUID, Waiting] = {}

    def do(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def places(self) -> Counter[str | uuid.UUID]:
        """Count who holds a place under each limit."""
        held: Counter[str | uuid.UUID] = Counter()
        for run in self.runs.values():
            if run.has_begun and run.state in (RunState.QUEUED, RunState.RUNNING):
                held.update(of(run.lane) & self.limits.keys())
        return held

    def waiting(self, lane: Lane, queues: tuple[str, ...]) -> list[uuid.UUID]:
        """Find who waits in a lane for its first start, oldest first."""
        return [
            run_id
            for run_id, run in self.runs.items()
            if run.lane == lane and run.state is RunState.QUEUED and not run.has_begun and run.queue in queues
        ]

    def pick(self, which: int, state: RunState) -> uuid.UUID:
        found = [run_id for run_id, run in self.runs.items() if run.state is state] or list(self.runs)
        return found[which % len(found)]

    @rule(lane=PICK, queue=st.sampled_from(["default", "default", "gpu"]), count=st.integers(1, 3))
    def queue_runs(self, lane: int, queue: str, count: int) -> None:
        chosen = self.lanes[lane % len(self.lanes)]
        run_ids = [new_id() for _ in range(count)]
        self.do(
            self.database.execute(
                "INSERT INTO runs (id, pipeline_id, schedule_id, backfill_id, queue) "
                "SELECT id, $2, $3, $4, $5 FROM unnest($1::uuid[]) AS id",
                run_ids,
                chosen.pipeline_id,
                chosen.schedule_id,
                chosen.backfill_id,
                queue,
            )
        )
        self.runs.update((run_id, Waiting(chosen, queue)) for run_id in run_ids)

    @precondition(lambda self: self.runs)
    @rule(which=st.lists(PICK, min_size=1, max_size=3), runner=st.sampled_from(sorted(QUEUES)))
    def ring(self, which: list[int], runner: str) -> None:
        rung = {self.pick(nth, RunState.QUEUED) for nth in which}
        before, queues = self.places(), QUEUES[runner]
        claimed = self.do(
            leases.claim(
                self.database,
                [Ring(run_id, self.runs[run_id].dispatch) for run_id in rung],
                runner_id=self.runners[runner],
                versions={LIMITED: "v1", FREE: "v1"},
                queues=queues,
            )
        )

        started = [run.id for run in claimed]
        assert len(set(started)) == len(started) <= len(rung)
        assert all(self.runs[run_id].state is RunState.QUEUED for run_id in started)
        assert all(self.runs[run_id].queue in queues for run_id in started)
        free = {run_id for run_id in rung if self.is_free(run_id)}
        may = {run_id for run_id in free if self.runs[run_id].state is RunState.QUEUED}
        assert {run_id for run_id in started if self.is_free(run_id)} == {
            run_id for run_id in may if self.runs[run_id].queue in queues
        }
        self.check_order(started, queues)
        for run in claimed:
            known = self.runs[run.id]
            known.state, known.has_begun, known.epoch = RunState.RUNNING, True, known.epoch + 1
            assert (run.epoch, run.is_limited) == (known.epoch, not self.is_free(run.id))
        self.check_nobody_was_forgotten(len(rung - free) - sum(run.is_limited for run in claimed), queues, before)

    def check_order(self, started: list[uuid.UUID], queues: tuple[str, ...]) -> None:
        """Inside a lane the oldest start, and nobody new starts while one that has begun could."""
        limited = [run_id for run_id in started if not self.is_free(run_id)]
        fresh = {run_id for run_id in limited if not self.runs[run_id].has_begun}
        for lane in self.lanes:
            first = self.waiting(lane, queues)
            chosen = fresh & set(first)
            assert self.is_lane_free(lane) or chosen == set(first[: len(chosen)])
        if fresh:
            begun = {
                run_id
                for run_id, run in self.runs.items()
                if run.has_begun and run.state is RunState.QUEUED and run.queue in queues and not self.is_free(run_id)
            }
            assert begun <= set(limited)

    def check_nobody_was_forgotten(
        self, rings_left: int, queues: tuple[str, ...], before: Counter[str | uuid.UUID]
    ) -> None:
        """A ring under a limit stays without a run only when nothing can start."""
        if rings_left > 0:
            due = self.do(leases.find_due(self.database, [LIMITED], older_than_s=EVER_S, queues=queues))
            assert due == [], before

    def is_free(self, run_id: uuid.UUID) -> bool:
        return self.is_lane_free(self.runs[run_id].lane)

    def is_lane_free(self, lane: Lane) -> bool:
        return lane.pipeline_id == FREE

    @precondition(lambda self: self.runs)
    @rule(which=PICK)
    def end(self, which: int) -> None:
        run_id = self.pick(which, RunState.RUNNING)
        if self.runs[run_id].state is RunState.RUNNING:
            self.do(
                self.database.execute(
                    "UPDATE runs SET state = 'success', finished_at = now(), lease_owner = NULL WHERE id = $1", run_id
                )
            )
            self.runs[run_id].state = RunState.SUCCESS

    @precondition(lambda self: self.runs)
    @rule(which=PICK, queue=st.sampled_from(["default", "gpu"]), epochs_ago=st.sampled_from([0, 0, 1]))
    def hand_over(self, which: int, queue: str, epochs_ago: int) -> None:
        run_id = self.pick(which, RunState.RUNNING)
        run = self.runs[run_id]

        rings = self.do(leases.hand_over(self.database, run_id, run.epoch - epochs_ago, queue=queue))

        if run.state is not RunState.RUNNING or epochs_ago:
            assert rings == []
            return
        run.state, run.queue, run.epoch, run.dispatch = RunState.QUEUED, queue, run.epoch + 1, run.dispatch + 1
        assert [(ring.run_id, ring.dispatch, ring.queue) for ring in rings] == [(run_id, run.dispatch, queue)]

    @precondition(lambda self: any(run.state is RunState.RUNNING for run in self.runs.values()))
    @rule(runner=st.sampled_from(sorted(QUEUES)))
    def kill(self, runner: str) -> None:
        rings, _ = self.do(leases.reclaim(self.database, [self.runners[runner]]))
        for ring in rings:
            run = self.runs[ring.run_id]
            run.state, run.epoch, run.dispatch = RunState.QUEUED, run.epoch + 1, run.dispatch + 1
            assert (ring.dispatch, ring.queue) == (run.dispatch, run.queue)

    @invariant()
    def no_limit_is_passed(self) -> None:
        held = self.places()
        assert all(held[limit] <= most for limit, most in self.limits.items())

    @invariant()
    def database_and_model_agree(self) -> None:
        rows = self.do(self.database.fetch("SELECT id, state, queue, epoch, dispatch FROM runs"))
        assert {row["id"]: tuple(row)[1:] for row in rows} == {
            run_id: (run.state, run.queue, run.epoch, run.dispatch) for run_id, run in self.runs.items()
        }

    @invariant()
    def what_is_due_can_start(self) -> None:
        """Nobody is rung for in vain: as many as are due would fit."""
        held = self.places()
        for ring in self.do(leases.find_due(self.database, [LIMITED], older_than_s=EVER_S, queues=QUEUES["both"])):
            if not self.runs[ring.run_id].has_begun:
                held.update(of(self.runs[ring.run_id].lane) & self.limits.keys())
        assert all(held[limit] <= most for limit, most in self.limits.items())


def of(lane: Lane) -> set[str | uuid.UUID]:
    """The limits that a run of this lane may be under."""
    return {key for key in (lane.pipeline_id, lane.schedule_id, lane.backfill_id) if key is not None}
