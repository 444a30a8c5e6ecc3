"""Fires the schedules of kind `time`, in every runner, without a leader.

Each runner looks for clocks that are due and locks those that no other holds; runs and the moved clock are one commit,
so a slot becomes one run however many runners look and whenever one of them dies. What is due, also what passed while
nobody looked, is told by the database's clock: this process's own only measures how long it sleeps. A pipeline that is
not readable right now gets its run all the same, which waits, as that of a delivery does.
"""

import asyncio
import datetime as dt

import structlog

from schemas import tasks
from schemas.errors import Invalid, PenstockError
from schemas.firing import DueClock, Firing, Slot
from schemas.queue import Doorbell
from schemas.states import Overlap
from schemas.store import clocks
from schemas.store.db import Database
from schemas.timetables import Timetable, jittered

log = structlog.get_logger()

LONGEST_PAUSE_S = 0.5  # so long a new schedule or an unpaused one may go unseen
SHORTEST_PAUSE_S = 0.02  # another runner has them
CLOCKS_AT_ONCE = 100
SLOTS_AT_ONCE = 100
AGAIN_AFTER = dt.timedelta(minutes=1)


class Scheduler:
    """Sleeps until the next clock is due, and fires it."""

    def __init__(self, db: Database, doorbell: Doorbell) -> None:
        self._db = db
        self._doorbell = doorbell
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to fire."""
        self._task = asyncio.create_task(self._fire_for_ever())

    async def stop(self) -> None:
        """Stop firing; a commit under way holds or does not, as a whole."""
        await tasks.end([self._task])

    async def fire(self) -> float:
        """Fire whatever is due, and say for how many seconds nothing will be; raises Unavailable."""
        while True:
            wait_s = await clocks.wait_s(self._db)
            if wait_s is None or wait_s > 0:
                return LONGEST_PAUSE_S if wait_s is None else min(wait_s, LONGEST_PAUSE_S)
            if not await self._fire_some():
                return SHORTEST_PAUSE_S

    async def _fire_some(self) -> bool:
        """Fire a batch in one transaction, and say whether there was any."""
        async with self._db.transaction() as transaction:
            due = await clocks.lock_due(transaction, CLOCKS_AT_ONCE)
            if not due:
                return False
            busy = await clocks.busy(transaction, [clock for clock in due if clock.overlap is Overlap.SKIP])
            limit = max(1, SLOTS_AT_ONCE // len(due))
            firings = [_plan_or_postpone(clock, is_busy=clock.schedule_id in busy, limit=limit) for clock in due]
            rings = await clocks.fire(transaction, firings, at=due[0].now)
        self._doorbell.ring(rings)
        return True

    async def _fire_for_ever(self) -> None:
        while True:
            pause = LONGEST_PAUSE_S
            try:
                pause = await self.fire()
            except PenstockError as error:
                log.warning("scheduler failed, trying again", error=type(error).__name__)
            except Exception:
                log.exception("scheduler broke, trying again")
            await asyncio.sleep(pause)


def plan(clock: DueClock, *, is_busy: bool, limit: int) -> Firing:
    """Decide which slots of a due clock get a run, and when it fires next; raises Invalid when it cannot be read.

    With `catchup` every slot that is due does, at most `limit` of them now; otherwise only the newest one. With
    `overlap: skip` a slot gets none that would meet a run of the schedule which waits or executes.
    """
    table = clock.timetable()
    slots, following = _due_slots(clock, table, limit)
    chosen = slots
    if clock.overlap is Overlap.SKIP:
        chosen = [] if is_busy else slots[:1]
    if skipped := len(slots) - len(chosen):
        log.warning("slots are skipped, a run is still active", schedule_id=str(clock.schedule_id), slots=skipped)
    if not clock.catchup and slots[0] != clock.next_slot:
        log.warning(
            "slots were missed", schedule_id=str(clock.schedule_id), since=str(clock.next_slot), fired=str(slots[0])
        )
    return Firing(schedule_id=clock.schedule_id, slots=tuple(chosen), skipped=skipped, next=following)


def _plan_or_postpone(clock: DueClock, *, is_busy: bool, limit: int) -> Firing:
    """Decide likewise, but let a clock that this runner cannot read wait for another, without losing its slot."""
    try:
        return plan(clock, is_busy=is_busy, limit=limit)
    except Invalid as error:  # a time zone that this machine does not know
        log.error("schedule cannot be read", schedule_id=str(clock.schedule_id), error=error.message)
        later = Slot(slot=clock.next_slot, due_at=clock.now + AGAIN_AFTER)
        return Firing(schedule_id=clock.schedule_id, slots=(), skipped=0, next=later)


def _due_slots(clock: DueClock, table: Timetable, limit: int) -> tuple[list[dt.datetime], Slot | None]:
    """List the slots that are due, and find the one after them."""
    slots = [clock.next_slot]
    if not clock.catchup:
        slots = [table.latest(clock.next_slot, clock.now - dt.timedelta(seconds=clock.jitter_s)) or clock.next_slot]
    while (slot := table.next(slots[-1])) is not None:
        due_at = jittered(slot, clock.schedule_id, clock.jitter_s)
        if due_at > clock.now or (clock.catchup and len(slots) == limit):
            return slots, Slot(slot=slot, due_at=due_at)
        slots = [*slots, slot] if clock.catchup else [slot]
    return slots, None
