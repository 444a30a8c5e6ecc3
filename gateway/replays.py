"""What callers do with replays: look at what one would make, ask for it, read, list and cancel.

One event is replayed at once; of many the gateways' `Replayer` takes care.
"""

import uuid
from collections.abc import Callable, Mapping

import msgspec

from gateway.comparisons import compare, not_replayable
from gateway.inspector import Inspector
from gateway.rejudging import Outcome, Rejudging, refuse_if_paused
from gateway.urls import Urls
from schemas.audit import Action
from schemas.errors import Conflict, FieldError, Invalid, NotFound
from schemas.events import Event
from schemas.ids import SMALLEST_ID, new_id
from schemas.keys import Caller
from schemas.pages import Page
from schemas.queue import Doorbell, Ring
from schemas.replays import (
    ChosenEvents,
    Comparison,
    NewReplay,
    NewReplayOfMany,
    PlannedReplay,
    Replay,
    ReplayAnswer,
    ReplayMode,
    ReplayPreview,
    ReplayState,
    Tally,
    as_filter,
)
from schemas.runs import RunRef
from schemas.states import RunState, Verdict
from schemas.store import audit, pipelines, replays, schedules
from schemas.store.db import Database
from schemas.store.replays import RunsOfEvent

MOST_COMPARED = 20
DEFAULT_RATE = 10


class Replays:
    """Reads and steers replays; `wake` tells the replayer that there is something to do."""

    def __init__(
        self, db: Database, doorbell: Doorbell, *, inspector: Inspector, urls: Urls, wake: Callable[[], None]
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._inspector = inspector
        self._urls = urls
        self._wake = wake

    async def judge(self, event_id: uuid.UUID, new: NewReplay) -> Outcome:
        """Find out what an event would become; raises NotFound, Invalid (the schedule), or Conflict."""
        event = await self._inspector.get(event_id)
        target = await self._target(new.schedule_id)
        return await Rejudging(self._db, self._inspector).judge(event, new.mode, target)

    async def replay(self, outcome: Outcome, caller: Caller) -> ReplayAnswer:
        """Make the runs that an event was judged to become; without any nothing is written."""
        if outcome.verdict is not Verdict.ACCEPTED:
            return self._answer(outcome, None, {})
        planned = PlannedReplay(
            id=new_id(),
            requested_by=caller.name,
            event_id=outcome.event.id,
            mode=outcome.mode,
            schedule_id=outcome.gate.schedule_id,
            rate_per_s=DEFAULT_RATE,
            expected=1,
        )
        made = RunsOfEvent(outcome.event.id, outcome.gate, outcome.runs)
        details = {"event_id": outcome.event.id, "mode": outcome.mode, "schedule_id": outcome.gate.schedule_id}
        async with self._db.transaction() as transaction:
            await replays.create(transaction, planned)
            numbers = await replays.add_runs(transaction, planned.id, [made])
            tally = Tally(accepted=1, runs=len(numbers))
            await replays.advance(
                transaction, planned.id, tally, since=SMALLEST_ID, until=outcome.event.id, pause_s=0, has_ended=True
            )
            details["runs"] = len(numbers)
            await audit.record(transaction, caller, Action.REPLAY_CREATE, _subject(planned.id), details)
        self._doorbell.ring(Ring(run, 0, str(outcome.gate.schedule_id), outcome.gate.queue) for run in numbers)
        return self._answer(outcome, planned.id, numbers)

    async def preview(self, new: NewReplayOfMany) -> ReplayPreview:
        """Count what a replay of many would look at and compare the first of them; raises NotFound or Conflict."""
        chosen, target = await self._resolve(new)
        which, end = as_filter(chosen), new_id()
        by_verdict, is_complete = await self._inspector.count(which, end=end)
        most = min(MOST_COMPARED, new.limit or MOST_COMPARED)
        found = await self._inspector.find_oldest(which, after=SMALLEST_ID, end=end, limit=most)
        rejudging = Rejudging(self._db, self._inspector)
        compared = [
            await self._compare_or_say_why(rejudging, event, new.mode, target)
            for event in await self._inspector.of_ids(found.ids)
        ]
        return ReplayPreview(
            count=sum(by_verdict.values()), is_complete=is_complete, by_verdict=by_verdict, events=compared
        )

    async def start(self, new: NewReplayOfMany, caller: Caller) -> Replay:
        """Ask for a replay of many; raises NotFound, Invalid or Conflict."""
        chosen, target = await self._resolve(new)
        replay_id = new_id()
        counted = await self._inspector.count(as_filter(chosen), end=replay_id)
        planned = PlannedReplay(
            id=replay_id,
            requested_by=caller.name,
            filter=chosen,
            mode=new.mode,
            schedule_id=target,
            rate_per_s=new.rate_per_s,
            limit=new.limit,
            expected=_expected(*counted, new.limit),
        )
        details = msgspec.structs.asdict(new) | {"filter": chosen, "schedule_id": target}
        async with self._db.transaction() as transaction:
            await replays.create(transaction, planned)
            await audit.record(transaction, caller, Action.REPLAY_CREATE, _subject(replay_id), details)
        self._wake()
        return await self.get(str(replay_id))

    async def find(self, key: str) -> uuid.UUID:
        """Resolve an id or number; raises NotFound."""
        return await replays.find_id(self._db, key)

    async def get(self, key: str) -> Replay:
        """Read one with its progress; raises NotFound."""
        return await replays.get(self._db, key)

    async def list_page(self, page: Page, *, state: ReplayState | None) -> list[Replay]:
        """Read the newest ones."""
        return await replays.list_page(self._db, page.before_id, state=state, limit=page.limit + 1)

    async def cancel(self, key: str, caller: Caller) -> Replay:
        """Make no further runs, and leave those that are made; raises NotFound, or Conflict when it has ended."""
        replay_id = await self.find(key)
        async with self._db.transaction() as transaction:
            if is_cancelled := await replays.cancel(transaction, replay_id):
                await audit.record(transaction, caller, Action.REPLAY_CANCEL, _subject(replay_id), {})
        found = await self.get(key)
        if not is_cancelled:
            raise Conflict(f"Replay {key} has ended already: {found.state}.", state=found.state)
        return found

    async def _resolve(self, new: NewReplayOfMany) -> tuple[ChosenEvents, uuid.UUID | None]:
        """Turn numbers of schedules into ids, and refuse what could not begin."""
        if new.filter == ChosenEvents():
            message = "name at least one filter; a `created_after` in 1970 means all events"
            raise Invalid(f"filter: {message}.", errors=(FieldError("/filter", message),))
        if new.filter.pipeline_id is not None:
            await pipelines.get(self._db, new.filter.pipeline_id)
        of_schedule = await self._target(new.filter.schedule_id, "/filter/schedule_id")
        target = await self._target(new.schedule_id)
        if (only := target or of_schedule) is not None:
            for gate in (await schedules.gates(self._db, [only])).values():
                refuse_if_paused(gate)
        chosen = new.filter
        if of_schedule is not None:
            chosen = msgspec.structs.replace(chosen, schedule_id=str(of_schedule))
        return chosen, target

    async def _target(self, key: str | int | None, pointer: str = "/schedule_id") -> uuid.UUID | None:
        if key is None:
            return None
        try:
            return (await schedules.get(self._db, str(key))).id
        except NotFound as error:
            raise Invalid(error.message, errors=(FieldError(pointer, error.message),)) from None

    async def _compare_or_say_why(
        self, rejudging: Rejudging, event: Event, mode: ReplayMode | None, target: uuid.UUID | None
    ) -> Comparison:
        try:
            return compare(await rejudging.judge(event, mode, target))
        except (Conflict, NotFound) as error:
            return not_replayable(event, error, mode=mode, schedule_id=target or event.schedule_id)

    def _answer(self, outcome: Outcome, replay_id: uuid.UUID | None, numbers: Mapping[uuid.UUID, int]) -> ReplayAnswer:
        return ReplayAnswer(
            replay_id=replay_id,
            event_id=outcome.event.id,
            mode=outcome.mode,
            schedule_id=outcome.gate.schedule_id,
            verdict=outcome.verdict,
            reason_code=outcome.reason_code,
            reason=outcome.reason,
            runs=[
                RunRef(
                    id=run,
                    number=number,
                    state=RunState.QUEUED,
                    url=self._urls.run(run),
                    stream_url=self._urls.run_stream(run),
                )
                for run, number in numbers.items()
            ],
        )


def _expected(by_verdict: Mapping[Verdict, int], is_complete: bool, limit: int | None) -> int | None:
    count = sum(by_verdict.values())
    if limit is not None and limit <= count:
        return limit
    return count if is_complete else None


def _subject(replay_id: uuid.UUID) -> str:
    return f"replay:{replay_id}"
