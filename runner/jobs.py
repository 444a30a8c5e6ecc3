"""What a runner does when the doorbell rings: claim the run in Postgres, have it executed, let go of it.

Rings that come together are claimed together. A ring that nobody can claim (taken, cancelled, paused, at its limit) is
no error: the run's row says what is true, and the sweeper rings again when it is due. Under a limit of active runs a
ring starts whichever run is next, and whoever ends one goes on with the next one by itself.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from runner.executor import Executor
from runner.hosts import Hosts
from runner.lease import Lease
from runner.library import Library
from runner.ownership import Ownership, Reason
from runner.recorder import Page, Recorder
from runner.remotes import Remotes
from runner.spool import Spool
from schemas.errors import LeaseLost, Unavailable
from schemas.groupcommit import GroupCommit
from schemas.queue import Doorbell, Ring
from schemas.runs import Claimed, RunError
from schemas.states import Origin, RunState
from schemas.store import leases, ledger
from schemas.store.db import Database

log = structlog.get_logger()

CLAIM_HOLD_S = 10.0
RETRY_S = 0.2
NEVER_RUNG = -1  # the dispatch of a ring that only says at which pipeline to look


class Jobs:
    """The runs that this runner owns, from claim to last commit."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        *,
        lease: Lease,
        library: Library,
        hosts: Hosts,
        spool: Spool,
        recorder: Recorder,
        remotes: Remotes,
        owned: dict[uuid.UUID, Ownership],
        queues: Collection[str],
        slot_freed: Callable[[], None],
        callback_due: Callable[[], None],
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._lease = lease
        self._library = library
        self._hosts = hosts
        self._spool = spool
        self._recorder = recorder
        self._remotes = remotes
        self._owned = owned
        self._queues = frozenset(queues)
        self._slot_freed = slot_freed
        self._callback_due = callback_due
        self._is_draining = False
        self._is_letting_go = False
        self._claims: GroupCommit[Ring, Claimed | None] = GroupCommit(self._claim, hold_s=CLAIM_HOLD_S)

    async def execute_run(self, ctx: dict[Any, Any]) -> None:
        """Take the run of one ring, if it can be taken, and execute it to its end. This is the arq job.

        Under a limit it goes on with the next run of the pipeline, until none is left that may start.
        """
        try:
            ring = Ring.parse(ctx["job_id"])
        except ValueError:
            log.warning("a ring is none of ours", job_id=ctx["job_id"])
            return
        claimed = await self._answer(ring)
        ctx["answered"]()
        while claimed is not None:
            await self._own(claimed)
            claimed = await self._follow(claimed) if claimed.is_limited else None

    async def _answer(self, ring: Ring) -> Claimed | None:
        try:
            return await self._claims.submit(ring)
        except Unavailable:
            log.warning("a ring was not answered, the sweeper will ring again")
            return None

    async def _follow(self, ended: Claimed) -> Claimed | None:
        """Take the run that comes after one that made room under its limits; who drains leaves it to others."""
        if self._is_draining:
            self._slot_freed()
            return None
        claimed = await self._answer(Ring(ended.id, NEVER_RUNG))
        if claimed is None:
            await self._ring_elsewhere(ended.pipeline_id)
        return claimed

    async def _ring_elsewhere(self, pipeline_id: str) -> None:
        """Ring for what may start now in a queue that is not served here, where the runs of this pipeline begin."""
        definition = self._library.get(pipeline_id)
        if definition is not None and definition.first_queue not in self._queues:
            with suppress(Unavailable):
                queues = [definition.first_queue]
                self._doorbell.ring(await leases.find_due(self._db, [pipeline_id], older_than_s=0, queues=queues))

    def drain(self) -> None:
        """Begin no run after the one that each job has."""
        self._is_draining = True

    def let_go(self) -> None:
        """End the blocks of all owned runs and write nothing more; the lease hands the runs back."""
        self._is_letting_go = True
        for ownership in self._owned.values():
            ownership.stop(Reason.RELEASED)

    async def close(self) -> None:
        """Wait until no claim is under way, whose runs would be ours without our knowing."""
        await self._claims.close()

    async def _claim(self, rings: list[Ring]) -> Sequence[Claimed | None]:
        """Claim what can be claimed and tell watchers; owned from this moment on."""
        versions = {} if self._is_letting_go else self._library.versions
        claimed = await leases.claim(
            self._db, rings, runner_id=self._lease.runner_id, versions=versions, queues=self._queues
        )
        by_id = {run.id: run for run in claimed}
        self._owned.update((run.id, Ownership(run)) for run in claimed)
        self._doorbell.tell(by_id)
        if self._is_letting_go:
            self.let_go()
        answers = [by_id.pop(ring.run_id, None) for ring in rings]
        others = iter(by_id.values())  # came first under a limit, and take the place of those that were rung
        return [answer or next(others, None) for answer in answers]

    async def _own(self, run: Claimed) -> None:
        ownership, page = self._owned[run.id], self._recorder.page(run)
        try:
            await self._execute(ownership, page)
        except LeaseLost:
            log.warning("a late write was refused", run_id=str(run.id), epoch=run.epoch)
        except Exception as error:  # a run must end with a reason, whatever broke
            log.exception("run broke", run_id=str(run.id))
            await self._fail(run, page, error)
        finally:
            if ownership.reason is not Reason.RELEASED and self._owned.get(run.id) is ownership:
                del self._owned[run.id]
            if run.wants_callback:
                self._callback_due()

    async def _execute(self, ownership: Ownership, page: Page) -> None:
        run = ownership.run
        definition = self._library.get(run.pipeline_id)
        if definition is None:
            page.run(RunState.FAILED, RunError(type="PipelineGone", message="The pipeline's file is gone."))
            await page.commit()
            return
        is_begun = run.epoch > 1 or run.origin is Origin.RESUME  # a released run counts its attempts anew
        begun = await self._begun_blocks(run) if is_begun else ()
        async with self._spool.carry(run, self._hosts) as hosts:
            executor = Executor(
                definition, ownership, page=page, hosts=hosts, remotes=self._remotes, queues=self._queues
            )
            with _stopped_in_time(ownership):
                elsewhere = await executor.execute(begun)
        if elsewhere is not None:
            await self._hand_over(run, elsewhere)

    async def _hand_over(self, run: Claimed, queue: str) -> None:
        """Give a run to those who serve the queue of its next blocks; they go on as after a crash."""
        while True:
            try:
                rings = await leases.hand_over(self._db, run.id, run.epoch, queue=queue)
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            else:
                return self._doorbell.ring(rings)

    async def _begun_blocks(self, run: Claimed) -> Sequence[Any]:
        while True:
            try:
                return await ledger.begun_blocks(self._db, run.id)
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    async def _fail(self, run: Claimed, page: Page, error: Exception) -> None:
        """Write that a run failed for a reason of ours; failing that, the lease finds the stray and hands it back."""
        page.run(RunState.FAILED, RunError(type=type(error).__name__, message=str(error)))
        try:
            await page.commit()
        except Exception:
            log.exception("failure not recorded", run_id=str(run.id))


@contextmanager
def _stopped_in_time(ownership: Ownership) -> Iterator[None]:
    """Stop a run when its time is up, as the database counts it: at once, if that was so before it was taken over."""
    left = ownership.run.time_left_s
    if left is None:
        yield
    elif left <= 0:
        ownership.stop(Reason.TIMED_OUT)
        yield
    else:
        timer = asyncio.get_running_loop().call_later(left, ownership.stop, Reason.TIMED_OUT)
        try:
            yield
        finally:
            timer.cancel()
