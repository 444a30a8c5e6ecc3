"""What a runner does when the doorbell rings: claim the run in Postgres, have it executed, let go of it.

Rings that come together are claimed together. A ring that nobody can claim (taken, cancelled, paused, at its limit) is
no error: the run's row says what is true, and the sweeper rings again when it is due.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from runner.executor import Executor
from runner.hosts import Hosts
from runner.lease import Lease
from runner.library import Library
from runner.ownership import Ownership, Reason
from runner.recorder import Page, Recorder
from runner.remotes import Remotes
from schemas.errors import LeaseLost, Unavailable
from schemas.groupcommit import GroupCommit
from schemas.queue import Doorbell, Ring
from schemas.runs import Claimed, RunError
from schemas.states import RunState
from schemas.store import leases, ledger
from schemas.store.db import Database

log = structlog.get_logger()

CLAIM_HOLD_S = 10.0
RETRY_S = 0.2


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
        recorder: Recorder,
        remotes: Remotes,
        owned: dict[uuid.UUID, Ownership],
        slot_freed: Callable[[], None],
        callback_due: Callable[[], None],
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._lease = lease
        self._library = library
        self._hosts = hosts
        self._recorder = recorder
        self._remotes = remotes
        self._owned = owned
        self._slot_freed = slot_freed
        self._callback_due = callback_due
        self._is_letting_go = False
        self._claims: GroupCommit[Ring, Claimed | None] = GroupCommit(self._claim, hold_s=CLAIM_HOLD_S)

    async def execute_run(self, ctx: dict[Any, Any]) -> None:
        """Take the run of one ring, if it can be taken, and execute it to its end. This is the arq job."""
        try:
            claimed = await self._claims.submit(Ring.parse(ctx["job_id"]))
        except ValueError:
            log.warning("a ring is none of ours", job_id=ctx["job_id"])
        except Unavailable:
            log.warning("a ring was not answered, the sweeper will ring again")
        else:
            if claimed is not None:
                await self._own(claimed)

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
        claimed = await leases.claim(self._db, rings, runner_id=self._lease.runner_id, versions=versions)
        by_id = {run.id: run for run in claimed}
        self._owned.update((run.id, Ownership(run)) for run in claimed)
        self._doorbell.tell(by_id)
        if self._is_letting_go:
            self.let_go()
        return [by_id.pop(ring.run_id, None) for ring in rings]

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
            if run.is_limited:
                self._slot_freed()
            if run.wants_callback:
                self._callback_due()

    async def _execute(self, ownership: Ownership, page: Page) -> None:
        run = ownership.run
        definition = self._library.get(run.pipeline_id)
        if definition is None:
            page.run(RunState.FAILED, RunError(type="PipelineGone", message="The pipeline's file is gone."))
            await page.commit()
            return
        begun = await self._begun_blocks(run) if run.epoch > 1 else ()  # a released run counts its attempts anew
        executor = Executor(definition, ownership, page=page, hosts=self._hosts, remotes=self._remotes)
        await executor.execute(begun)

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
