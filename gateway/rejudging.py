"""What an event would become if it came again: as it was, or by the rules of today. Nothing is written here.

The signature is not checked again: it was checked when the event came, and neither the secret nor the headers that
carried it need still be there.
"""

import uuid
from collections.abc import Sequence

import msgspec

from gateway import intake, params
from gateway.inspector import Inspector
from gateway.rules import Rules
from schemas.errors import Conflict
from schemas.events import SAME_BODY, Event, EventBody
from schemas.ids import new_id
from schemas.replays import OldRun, ReplayedRun, ReplayMode
from schemas.schedules import Gate
from schemas.states import OnPaused, Verdict
from schemas.store import replays, schedules
from schemas.store.db import Database


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event when it was judged again, and the runs that it would become.

    `event` is the first one where a duplicate with the same body was asked for.
    """

    event: Event
    mode: ReplayMode
    gate: Gate
    verdict: Verdict
    reason_code: str | None = None
    reason: str | None = None
    old_runs: Sequence[OldRun] = ()
    runs: Sequence[ReplayedRun] = ()

    @property
    def size(self) -> int:
        """About how many bytes its runs take."""
        return sum(1024 + len(bytes(run.variables)) + len(run.event_item or b"") for run in self.runs)


class Rejudging:
    """Judges events again; one object for one look, for it remembers the schedules that it has read."""

    def __init__(self, db: Database, inspector: Inspector) -> None:
        self._db = db
        self._inspector = inspector
        self._gates: dict[uuid.UUID, Gate | None] = {}

    async def judge(self, event: Event, mode: ReplayMode | None, schedule_id: uuid.UUID | None) -> Outcome:
        """Judge one event for a schedule, its own when none is named.

        Raises Conflict when it cannot be replayed like this, NotFound when it was purged.
        """
        if event.duplicate_of is not None and event.reason_code == SAME_BODY:
            event = await self._inspector.get(event.duplicate_of)
        gate = await self._gate(schedule_id or event.schedule_id)
        refuse_if_paused(gate)
        old = await replays.old_runs(self._db, event.id)
        if mode is ReplayMode.AS_WAS or (mode is None and old):
            if not old:
                raise Conflict(f'Event {event.id} caused no run, so there is none to repeat: replay it "today".')
            return _as_was(gate, event, old)
        body = await self._inspector.body(event.id)
        if not body.is_whole:
            raise Conflict(
                f"Of the body of event {event.id} only {len(body.body)} bytes are kept, and a part cannot be replayed."
            )
        return _today(gate, event, body, old)

    async def _gate(self, schedule_id: uuid.UUID) -> Gate:
        if schedule_id not in self._gates:
            self._gates[schedule_id] = (await schedules.gates(self._db, [schedule_id])).get(schedule_id)
        gate = self._gates[schedule_id]
        if gate is None:
            raise Conflict(f"Schedule {schedule_id} is deleted: name another one as `schedule_id`.")
        return gate


def refuse_if_paused(gate: Gate) -> None:
    """Let a replay to a paused schedule through unless that rejects; raises Conflict."""
    if gate.is_paused and gate.on_paused is OnPaused.REJECT:
        raise Conflict(
            f"Schedule {gate.schedule_id} or its pipeline is paused, and it rejects: unpause it, or replay to another "
            "schedule with `schedule_id`.",
            is_paused=True,
        )


def _as_was(gate: Gate, event: Event, old: Sequence[OldRun]) -> Outcome:
    for run in old:
        variables = msgspec.json.decode(run.variables)
        if errors := params.find_errors(variables, gate.params_schema):
            return Outcome(
                event=event,
                mode=ReplayMode.AS_WAS,
                gate=gate,
                verdict=Verdict.REJECTED,
                reason_code="params_invalid",
                reason=f"The variables of run {run.number} are not what pipeline {gate.pipeline_id} takes: "
                + "; ".join(f"{error.pointer}: {error.message}" for error in errors),
                old_runs=old,
            )
    runs = [
        ReplayedRun(
            run_id=new_id(), item=run.item, variables=run.variables, event_item=run.event_item, parent_id=run.id
        )
        for run in old
    ]
    return Outcome(event=event, mode=ReplayMode.AS_WAS, gate=gate, verdict=Verdict.ACCEPTED, old_runs=old, runs=runs)


def _today(gate: Gate, event: Event, body: EventBody, old: Sequence[OldRun]) -> Outcome:
    if Rules.of(gate).read_a_secret(intake.is_secret):
        raise Conflict(
            f"The rules of schedule {gate.schedule_id} read a secret header or parameter, and those are not stored, so "
            f"event {event.id} cannot be judged again."
        )
    judged = intake.judge_again(gate, intake.as_it_came(event.headers, event.query, body.body, event.received_at))
    runs = []
    if judged.verdict is Verdict.ACCEPTED:
        runs = [
            ReplayedRun(
                run_id=new_id(),
                item=number,
                variables=item.variables,
                event_item=(item.payload or b"null") if judged.is_split else None,
                parent_id=None,
            )
            for number, item in enumerate(judged.items)
        ]
    return Outcome(
        event=event,
        mode=ReplayMode.TODAY,
        gate=gate,
        verdict=judged.verdict,
        reason_code=judged.reason_code,
        reason=judged.reason,
        old_runs=old,
        runs=runs,
    )
