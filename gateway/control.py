"""What people do to runs that exist: cancel, resume, rerun, mark, annotate, delete.

Each deed is written down in its own transaction.
"""

from collections.abc import Container
from typing import Any
from uuid import UUID

import msgspec

from gateway import params
from gateway.runs import Runs, refuse_if_paused
from schemas.audit import Action
from schemas.changes import Channels
from schemas.errors import Conflict, FieldError, Invalid, NotFound
from schemas.keys import Caller
from schemas.queue import Doorbell, Ring
from schemas.runs import Mark, Repetition, Resumption, Run, RunError, RunName, RunRow
from schemas.states import TERMINAL_RUN_STATES, RunState
from schemas.store import audit, control, pipelines, runs
from schemas.store.db import Database

_RESUMABLE = (RunState.FAILED, RunState.CANCELLED)


class Control:
    """Steers runs for those who may; owners of runs hear of it through the database."""

    def __init__(self, db: Database, doorbell: Doorbell, *, runs: Runs, channels: Channels) -> None:
        self._db = db
        self._doorbell = doorbell
        self._runs = runs
        self._channels = channels

    async def cancel(self, key: str, caller: Caller) -> Run:
        """Ask a run to end; raises NotFound, or Conflict when it has ended already."""
        run_id = await runs.find_id(self._db, key)
        async with self._db.transaction() as transaction:
            state = await runs.cancel(transaction, run_id)
            if state is not None:
                await audit.record(transaction, caller, Action.RUN_CANCEL, f"run:{run_id}", {})
        if state is None:
            ended = await self._runs.get(key)
            raise Conflict(f"Run {run_id} has ended already: {ended.state}.", state=ended.state)
        if state is RunState.RUNNING:
            await self._doorbell.announce(self._channels.cancel, [run_id])
        else:
            self._doorbell.tell([run_id])
        return await self._runs.get(key)

    async def resume(self, key: str, resumption: Resumption, caller: Caller) -> Run:
        """Queue a run that goes on where a failed or cancelled one ended, or from a block of any that has ended.

        Raises NotFound, Invalid for a block that it does not have, or Conflict when it ended otherwise, is being
        resumed, or its pipeline is paused and rejects.
        """
        old = await self._runs.row(key)
        if resumption.from_block is None:
            _expect(old, _RESUMABLE, "only a failed or cancelled run can be resumed")
        else:
            _expect(old, TERMINAL_RUN_STATES, "only a run that has ended can be resumed from a block")
            await self._expect_block(old, resumption.from_block)
        refuse_if_paused(await pipelines.get(self._db, old.pipeline_id))
        async with self._db.transaction() as transaction:
            ring = await control.resume(transaction, old.id, note=resumption.note, from_block=resumption.from_block)
            if ring is not None:
                details = {"new_run_id": ring.run_id, "note": resumption.note, "from_block": resumption.from_block}
                await audit.record(transaction, caller, Action.RUN_RESUME, f"run:{old.id}", details)
        return await self._begin(old, ring)

    async def rerun(self, key: str, repetition: Repetition, caller: Caller) -> Run:
        """Queue a run that repeats an ended one whole, with its variables or with others.

        Raises NotFound, Invalid (params), or Conflict when it has not ended or its pipeline is paused and rejects.
        """
        old = await self._runs.row(key)
        _expect(old, TERMINAL_RUN_STATES, "only a run that has ended can be run again")
        pipeline = await pipelines.get(self._db, old.pipeline_id)
        refuse_if_paused(pipeline)
        edited, variables = repetition.variables, msgspec.json.decode(old.variables, type=dict[str, Any])
        if edited is not msgspec.UNSET:
            variables = edited
        params.check(variables, pipeline)
        async with self._db.transaction() as transaction:
            ring = await control.rerun(transaction, old.id, variables=variables, note=repetition.note)
            if ring is not None:
                changes = {} if edited is msgspec.UNSET else {"variables": edited}
                details = {"new_run_id": ring.run_id, "note": repetition.note, **changes}
                await audit.record(transaction, caller, Action.RUN_RERUN, f"run:{old.id}", details)
        return await self._begin(old, ring)

    async def mark(self, key: str, mark: Mark, caller: Caller) -> Run:
        """Say by hand what became of a run, whatever it is; raises NotFound, or Conflict when it is that already.

        Whoever executes it is told, and can write nothing any more.
        """
        run_id, state = await runs.find_id(self._db, key), RunState(mark.state)
        error = None
        if state is RunState.FAILED:
            error = RunError(type="Marked", message=f"marked failed by {caller.name}" + _behind_colon(mark.note))
        async with self._db.transaction() as transaction:
            before = await control.mark(transaction, run_id, state, error=error, note=mark.note)
            if before is None:
                raise Conflict(f"Run {run_id} is {state} already.", state=state)
            details = {"from": before, "to": state, "note": mark.note}
            await audit.record(transaction, caller, Action.RUN_MARK, f"run:{run_id}", details)
        if before is RunState.RUNNING:
            await self._doorbell.announce(self._channels.cancel, [run_id])
        self._doorbell.tell([run_id])
        return await self._runs.get(key)

    async def requeue(self, run: Run, caller: Caller, *, is_whole: bool, note: str | None) -> Run:
        """Begin a run anew, as products do that know it by its old name: `Runs.named` finds the new one there.

        Whole, or where it failed; one that is queued, or has nothing that failed, stays as it is. Raises Conflict while
        it executes, and what `resume` and `rerun` raise.
        """
        if run.state is RunState.QUEUED or (run.state is RunState.SUCCESS and not is_whole):
            return run
        note = run.note if note is None else note
        if is_whole:
            return await self.rerun(str(run.id), Repetition(note=note), caller)
        return await self.resume(str(run.id), Resumption(note=note), caller)

    async def annotate(self, run_id: UUID, note: str | None, caller: Caller) -> None:
        """Write another note on a run, or none; raises NotFound."""
        async with self._db.transaction() as transaction:
            if not await control.annotate(transaction, run_id, note):
                raise NotFound(f"There is no run {run_id}.")
            await audit.record(transaction, caller, Action.RUN_NOTE, f"run:{run_id}", {"note": note})

    async def delete(self, name: RunName, caller: Caller) -> None:
        """Delete a run and all that repeat it, with their logs and outputs; what is queued is cancelled first.

        Raises NotFound, or Conflict while one of them executes.
        """
        async with self._db.transaction() as transaction:
            states = await control.lock_repetitions(transaction, name.first_id)
            if RunState.RUNNING in states.values():
                raise Conflict(f"Run {name.name} executes: cancel it first.", state=RunState.RUNNING)
            cancelled = await runs.cancel_all(
                transaction, [run_id for run_id in states if not states[run_id].is_terminal]
            )
            deleted = await control.delete(transaction, list(states))
            if not deleted:
                raise NotFound(f"There is no run {name.name}.")
            details = {"name": name.name, "runs": deleted}
            await audit.record(transaction, caller, Action.RUN_DELETE, f"run:{name.first_id}", details)
        self._doorbell.tell(list(cancelled))

    async def _expect_block(self, run: RunRow, block_id: str) -> None:
        graph = await pipelines.graph_of(self._db, run.pipeline_id, run.version)
        if graph is None or all(block.id != block_id for block in graph.blocks):
            message = f"run {run.number} has no block {block_id!r}"
            raise Invalid(f"from_block: {message}.", errors=(FieldError("/from_block", message),))

    async def _begin(self, old: RunRow, ring: Ring | None) -> Run:
        if ring is None:
            raise Conflict(f"Run {old.id} was changed just now; look at it and try again.")
        self._doorbell.ring([ring])
        return await self._runs.get(str(ring.run_id))


def _expect(run: RunRow, states: Container[RunState], rule: str) -> None:
    if run.state not in states:
        raise Conflict(f"Run {run.id} is {run.state}; {rule}.", state=run.state)


def _behind_colon(note: str | None) -> str:
    return f": {note}" if note else ""
