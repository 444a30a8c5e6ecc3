"""Dry runs as callers see them: the gateway executes no user code, so it asks the runners and waits."""

import asyncio
import contextlib
import uuid

import msgspec

from gateway import params
from schemas.changes import Channels
from schemas.dry_runs import MOST_ATTEMPTS, DryProgress, DryResult, DryRun
from schemas.errors import Conflict, PenstockError, Unavailable
from schemas.queue import Doorbell
from schemas.runs import RunError
from schemas.states import RunState
from schemas.store import dry_runs, pipelines
from schemas.store.db import Database

MOST_AT_ONCE = 16
_FIRST_PAUSE_S = 0.03
_LONGEST_PAUSE_S = 0.3


class DryRuns:
    """Has pipelines executed on their first rows."""

    def __init__(self, db: Database, doorbell: Doorbell, *, channels: Channels) -> None:
        self._db = db
        self._doorbell = doorbell
        self._channels = channels
        self._count = 0

    async def execute(
        self, pipeline_id: str, asked: DryRun, *, within_s: float, hung_up: "asyncio.Task[None]"
    ) -> DryResult:
        """Ask for a dry run and wait for its result, or until the caller has hung up.

        Raises NotFound, Invalid (params), Conflict (the file was never readable), Unavailable when no runner took it or
        finished it in time. Nothing is left of it afterwards, and a runner that still executes it stops.
        """
        pipeline = await pipelines.get(self._db, pipeline_id)
        if pipeline.graph is None:
            raise Conflict(f"Pipeline {pipeline_id} cannot run: {pipeline.error}")
        params.check(asked.variables, pipeline)
        if self._count >= MOST_AT_ONCE:
            raise Unavailable("Too many dry runs are under way.")
        self._count += 1
        try:
            return await self._ask(pipeline_id, asked, within_s, hung_up)
        finally:
            self._count -= 1

    async def _ask(self, pipeline_id: str, asked: DryRun, within_s: float, hung_up: "asyncio.Task[None]") -> DryResult:
        request_id = await dry_runs.ask(self._db, pipeline_id, asked, within_s=within_s)
        try:
            await self._doorbell.announce(self._channels.dry_runs)
            return await self._wait(pipeline_id, request_id, within_s, hung_up)
        finally:
            with contextlib.suppress(PenstockError):  # it expires, and a later one deletes it
                await dry_runs.forget(self._db, request_id)

    async def _wait(
        self, pipeline_id: str, request_id: uuid.UUID, within_s: float, hung_up: "asyncio.Task[None]"
    ) -> DryResult:
        loop = asyncio.get_running_loop()
        give_up_at, pause, progress = loop.time() + within_s, _FIRST_PAUSE_S, None
        while not hung_up.done():
            await asyncio.wait((hung_up,), timeout=pause)
            progress = await dry_runs.progress(self._db, request_id)
            if progress is not None and (result := _result(pipeline_id, progress)) is not None:
                return result
            if progress is None or loop.time() > give_up_at:
                break
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)
        if progress is not None and progress.is_taken:
            raise Unavailable(f"The dry run did not end within {within_s:g} s; Prefer: wait=N allows up to 60.")
        raise Unavailable(f"No runner took the dry run within {within_s:g} s; is one up that has {pipeline_id}?")


def _result(pipeline_id: str, progress: DryProgress) -> DryResult | None:
    if bytes(progress.result) != b"null":
        return msgspec.json.decode(progress.result, type=DryResult)
    if not progress.is_lost:
        return None
    error = RunError(type="CrashLoop", message=f"{MOST_ATTEMPTS} runners died while they executed this dry run")
    return DryResult(pipeline_id=pipeline_id, state=RunState.FAILED, error=error)
