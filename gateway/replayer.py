"""Replays of many events, executed by the gateways without a leader.

A step takes up the replay that is due, judges its next events, and writes their runs together with the moved cursor:
whoever dies in between has done nothing, and two who took the same step cannot both write it. The next step is due when
the rate allows, whoever takes it.
"""

import asyncio
import time
import uuid
from collections import Counter

import msgspec
import structlog

from gateway.inspector import Inspector
from gateway.rejudging import Outcome, Rejudging
from schemas import tasks
from schemas.errors import Conflict, NotFound, PenstockError
from schemas.events import Event
from schemas.queue import Doorbell, Ring
from schemas.replays import ReplayStep, Tally, as_filter
from schemas.states import Verdict
from schemas.store import replays
from schemas.store.db import Database
from schemas.store.replays import RunsOfEvent

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
RETRY_S = 0.5
LEASE_S = 5.0
STEP_S = 0.2  # of what the rate allows is done at a time
MOST_LAG_S = 0.1  # is made good: a rate is no mean over the time when nobody was there
BUDGET_S = 1.0
BUDGET_BYTES = 16 << 20
BUDGET_RUNS = 2000


class Replayer:
    """Moves replays on for as long as the gateway is up."""

    def __init__(self, db: Database, doorbell: Doorbell, inspector: Inspector) -> None:
        self._db = db
        self._doorbell = doorbell
        self._inspector = inspector
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for replays."""
        self._task = asyncio.create_task(self._replay_for_ever())

    async def stop(self) -> None:
        """Stop, between two steps or within one: another gateway takes it again."""
        await tasks.end([self._task])

    def wake(self) -> None:
        """Look at once: somebody asked for a replay."""
        self._news.set()

    async def step(self) -> bool:
        """Take the step that is due; false when none is. Raises Unavailable."""
        step = await replays.take(self._db, lease_s=LEASE_S)
        if step is None:
            return False
        batch = _Batch(step)
        await self._fill(batch)
        numbers = await replays.write_step(
            self._db,
            step,
            batch.tally,
            batch.made,
            until=batch.until,
            pause_s=batch.pause_s,
            has_ended=batch.has_ended,
        )
        if numbers is None:
            log.info("replay was moved on by another gateway, or cancelled", replay_id=str(step.id))
        elif numbers:
            self._doorbell.ring(
                Ring(run.run_id, 0, str(one.gate.schedule_id), one.gate.queue)
                for one in batch.made
                for run in one.runs
                if run.run_id in numbers
            )
        return True

    async def _fill(self, batch: "_Batch") -> None:
        step = batch.step
        found = await self._inspector.find_oldest(
            as_filter(step.filter), after=step.cursor_id, end=step.id, limit=batch.most_events
        )
        rejudging = Rejudging(self._db, self._inspector)
        for event in await self._inspector.of_ids(found.ids):
            batch.add(event, await self._judge(rejudging, event, step))
            if batch.is_full:
                return
        batch.until = found.looked_until
        batch.has_seen_all = not found.has_more

    @staticmethod
    async def _judge(rejudging: Rejudging, event: Event, step: ReplayStep) -> Outcome | None:
        """Judge one event; None when it cannot be replayed like this."""
        try:
            return await rejudging.judge(event, step.mode, step.schedule_id)
        except (Conflict, NotFound) as error:
            log.debug("event is not replayed", replay_id=str(step.id), event_id=str(event.id), reason=error.message)
            return None
        except PenstockError:
            raise
        except Exception:  # one event must not hold up those behind it for ever
            log.exception("event cannot be judged", replay_id=str(step.id), event_id=str(event.id))
            return None

    async def _replay_for_ever(self) -> None:
        while True:
            try:
                pause_s = 0.0 if await self.step() else await self._pause_s()
            except PenstockError as error:
                log.warning("replays wait", error=error.message)
                pause_s = RETRY_S
            except Exception:
                log.exception("a replay broke, trying again")
                pause_s = LOOK_EVERY_S
            if await tasks.set_within(self._news, pause_s):
                self._news.clear()

    async def _pause_s(self) -> float:
        due_s = await replays.next_due_s(self._db)
        return LOOK_EVERY_S if due_s is None else min(LOOK_EVERY_S, max(0.0, due_s))


class _Batch:
    """What one step does, within bounds of time and memory."""

    def __init__(self, step: ReplayStep) -> None:
        self.step = step
        self.made: list[RunsOfEvent] = []
        self.until: uuid.UUID = step.cursor_id
        self.has_seen_all = False
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._begun = time.monotonic()

    @property
    def most_events(self) -> int:
        allowed = max(1, int(self.step.rate_per_s * STEP_S))
        return allowed if self.step.left is None else min(allowed, self.step.left)

    def add(self, event: Event, outcome: Outcome | None) -> None:
        self.until = event.id
        self._counts["skipped" if outcome is None else outcome.verdict.value] += 1
        if outcome is not None and outcome.verdict is Verdict.ACCEPTED:
            self.made.append(RunsOfEvent(outcome.event.id, outcome.gate, outcome.runs))
            self._counts["runs"] += len(outcome.runs)
            self._bytes += outcome.size

    @property
    def is_full(self) -> bool:
        """Whether it must be written before more is added."""
        return self._counts["runs"] >= BUDGET_RUNS or self._bytes >= BUDGET_BYTES or self._elapsed_s >= BUDGET_S

    @property
    def tally(self) -> Tally:
        return msgspec.convert(dict(self._counts), Tally)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do behind it."""
        return self.has_seen_all or (self.step.left is not None and self._events >= self.step.left)

    @property
    def pause_s(self) -> float:
        """How long nobody may take the next step, so that no more runs are made in a second than was asked for.

        After a look in vain it is as long as that took: deliveries want the database, too.
        """
        if not self._events:
            return self._elapsed_s
        cost = max(self._events, self._counts["runs"])
        return max(0.0, cost / self.step.rate_per_s - min(self.step.lag_s, MOST_LAG_S) - self._elapsed_s)

    @property
    def _events(self) -> int:
        return self._counts.total() - self._counts["runs"]

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun
