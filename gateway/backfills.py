"""What callers do with backfills: create, read, list, pause, cancel.

All runs of a backfill are written in one commit, so an interrupted creation leaves nothing. Starting them in order and
under their limit is the business of the runners' claim.
"""

import asyncio
import datetime as dt
import hashlib
import uuid
from collections.abc import Collection, Container
from typing import Any

import msgspec

from gateway import params
from gateway.logical_dates import Rhythm, list_dates, rhythm_of
from gateway.runs import refuse_if_paused
from schemas.audit import Action
from schemas.backfills import Backfill, BackfillPatch, BackfillPreview, BackfillState, NewBackfill, PlannedBackfill
from schemas.changes import Channels
from schemas.errors import Conflict, FieldError, Invalid, NotFound
from schemas.ids import new_id
from schemas.keys import Caller
from schemas.pages import Counted, Page, Span
from schemas.pipelines import Pipeline
from schemas.queue import Doorbell, Ring
from schemas.schedules import Schedule
from schemas.states import RunState
from schemas.store import audit, backfills, pipelines, runs, schedules
from schemas.store.db import Database

SHOWN_DATES = 10
_SOME_DATE = "2000-01-01"  # all dates are alike to a schema
MOST_TOLD = 1000  # of the runs that a cancelled backfill ends; who watches another hears of it a second later


class Plan(msgspec.Struct, frozen=True):
    """What a request comes to; there are no `dates` only when all were skipped, and then nothing can be created."""

    pipeline: Pipeline
    schedule: Schedule | None
    rhythm: Rhythm
    variables: dict[str, Any]
    date_variable: str | None
    dates: list[dt.datetime]

    @property
    def fingerprint(self) -> str:
        """Stands for everything that decides which runs there will be."""
        schedule_id = self.schedule.id if self.schedule else None
        dated = (self.date_variable,) if self.date_variable else ()
        what = (schedule_id, self.rhythm, self.variables, self.dates[0], self.dates[-1], len(self.dates), *dated)
        return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()

    def preview(self) -> BackfillPreview:
        """Say what would happen."""
        dates = self.dates
        return BackfillPreview(count=len(dates), first=dates[0], last=dates[-1], dates=dates[:SHOWN_DATES])


class Backfills:
    """Reads and steers backfills."""

    def __init__(self, db: Database, doorbell: Doorbell, *, channels: Channels) -> None:
        self._db = db
        self._doorbell = doorbell
        self._channels = channels

    async def plan(self, pipeline_id: str, new: NewBackfill, *, skipping: Container[RunState] = ()) -> Plan:
        """Find out what a request comes to; dates whose newest run is in a state of `skipping` are left out.

        Raises NotFound, Invalid, or Conflict when the pipeline cannot run now.
        """
        pipeline = await pipelines.get(self._db, pipeline_id)
        if pipeline.graph is None:
            raise Conflict(f"Pipeline {pipeline_id} cannot run: {pipeline.error}")
        refuse_if_paused(pipeline)
        schedule = await self._schedule(pipeline_id, new.schedule_id)
        inherited = msgspec.json.decode(schedule.variables, type=dict[str, Any]) if schedule else {}
        variables = inherited | new.variables
        params.check(variables | ({new.date_variable: _SOME_DATE} if new.date_variable else {}), pipeline)
        variables.pop(new.date_variable or "", None)
        rhythm = rhythm_of(new, schedule)
        dates = await asyncio.to_thread(list_dates, new, rhythm)
        if skipping:
            states = await runs.states_of_dates(self._db, pipeline_id, dates)
            dates = [date for date in dates if states.get(date) not in skipping]
        return Plan(pipeline, schedule, rhythm, variables, new.date_variable, dates)

    async def create(self, plan: Plan, new: NewBackfill, caller: Caller) -> tuple[Backfill, bool]:
        """Write a backfill with its runs; the other result is False when it was there already."""
        planned = PlannedBackfill(
            id=new_id(),
            pipeline_id=plan.pipeline.id,
            schedule_id=plan.schedule.id if plan.schedule else None,
            key=f"{plan.fingerprint}:{new.key}" if new.key else plan.fingerprint,
            every=new.every,
            timezone=plan.rhythm.timezone,
            variables=msgspec.json.encode(plan.variables),
            date_variable=plan.date_variable,
            max_active_runs=new.max_active_runs,
            run_ids=[new_id() for _ in plan.dates],
            dates=plan.dates,
        )
        async with self._db.transaction() as transaction:
            created = await backfills.create(transaction, planned)
            if created is not None:
                details = msgspec.structs.asdict(new) | {"pipeline_id": plan.pipeline.id, "total": len(plan.dates)}
                await audit.record(transaction, caller, Action.BACKFILL_CREATE, _subject(created), details)
        if created is None:
            existing = await backfills.find_by_key(self._db, plan.pipeline.id, planned.key)
            return await self.get(str(existing)), False
        first = planned.run_ids[: new.max_active_runs]
        self._doorbell.ring(Ring(run_id, 0, str(created), plan.pipeline.queue) for run_id in first)
        return await self.get(str(created)), True

    async def find(self, key: str) -> uuid.UUID:
        """Resolve an id or number; raises NotFound."""
        return await backfills.find_id(self._db, key)

    async def run_ids(self, backfill_id: uuid.UUID) -> list[uuid.UUID]:
        """List the runs of a backfill in the order of their dates."""
        return await backfills.run_ids(self._db, backfill_id)

    async def numbers(self, backfill_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
        """Read the numbers of these backfills."""
        return await backfills.numbers(self._db, backfill_ids)

    async def get(self, key: str) -> Backfill:
        """Read one with its progress; raises NotFound."""
        return await backfills.get(self._db, key)

    async def list_page(self, page: Page, *, pipeline_id: str | None, state: BackfillState | None) -> list[Backfill]:
        """Read the newest ones."""
        return await backfills.list_page(
            self._db, page.before_id, pipeline_id=pipeline_id, state=state, limit=page.limit + 1
        )

    async def list_span(self, span: Span, *, pipeline_id: str | None, oldest_first: bool = False) -> Counted[Backfill]:
        """Read a part of the backfills, the newest first, and how many there are."""
        return await backfills.list_span(self._db, span, pipeline_id=pipeline_id, oldest_first=oldest_first)

    async def set_paused(self, key: str, caller: Caller, *, is_paused: bool) -> Backfill:
        """Let no further run begin, or let them begin again; raises NotFound, or Conflict when it is cancelled."""
        backfill_id = await self.find(key)
        action = Action.BACKFILL_PAUSE if is_paused else Action.BACKFILL_UNPAUSE
        async with self._db.transaction() as transaction:
            if not await backfills.set_paused(transaction, backfill_id, is_paused=is_paused):
                raise _ended(key, BackfillState.CANCELLED)
            await audit.record(transaction, caller, action, _subject(backfill_id), {})
        if not is_paused:
            await self._ring(backfill_id)
        return await self.get(key)

    async def patch(self, key: str, patch: BackfillPatch, caller: Caller) -> Backfill:
        """Change how many runs may execute at once; raises NotFound, or Conflict when it is cancelled."""
        backfill_id = await self.find(key)
        async with self._db.transaction() as transaction:
            if not await backfills.set_limit(transaction, backfill_id, patch.max_active_runs):
                raise _ended(key, BackfillState.CANCELLED)
            details = msgspec.structs.asdict(patch)
            await audit.record(transaction, caller, Action.BACKFILL_CHANGE, _subject(backfill_id), details)
        await self._ring(backfill_id)
        return await self.get(key)

    async def cancel(self, key: str, caller: Caller) -> Backfill:
        """Cancel what waits and ask what runs to end; raises NotFound, or Conflict when all has ended."""
        backfill_id = await self.find(key)
        async with self._db.transaction() as transaction:
            if is_cancelled := await backfills.cancel(transaction, backfill_id):
                states = await runs.cancel_all(transaction, await backfills.active(transaction, backfill_id))
                await audit.record(transaction, caller, Action.BACKFILL_CANCEL, _subject(backfill_id), {})
        if not is_cancelled:
            raise _ended(key, (await self.get(key)).state)
        if running := [run_id for run_id, state in states.items() if state is RunState.RUNNING]:
            await self._doorbell.announce(self._channels.cancel, running)
        cancelled = [run_id for run_id, state in states.items() if state is RunState.CANCELLED]
        self._doorbell.tell(cancelled[:MOST_TOLD])
        return await self.get(key)

    async def _schedule(self, pipeline_id: str, key: str | None) -> Schedule | None:
        if key is None:
            return None
        try:
            schedule = await schedules.get(self._db, key)
        except NotFound as error:
            raise Invalid(error.message, errors=(FieldError("/schedule_id", error.message),)) from None
        if schedule.pipeline_id != pipeline_id:
            message = f"schedule {key} starts pipeline {schedule.pipeline_id}"
            raise Invalid(f"schedule_id: {message}.", errors=(FieldError("/schedule_id", message),))
        return schedule

    async def _ring(self, backfill_id: uuid.UUID) -> None:
        waiting = await backfills.waiting(self._db, backfill_id)
        self._doorbell.ring(Ring(run_id, dispatch, str(backfill_id), queue) for run_id, dispatch, queue in waiting)


def _subject(backfill_id: uuid.UUID) -> str:
    return f"backfill:{backfill_id}"


def _ended(key: str, state: BackfillState) -> Conflict:
    return Conflict(f"Backfill {key} has ended already: {state}.", state=state)
