"""Why an event did or did not run: step by step, under the rules of its time and under today's."""

import contextlib
import uuid
from collections.abc import Iterator

import msgspec

from gateway import intake
from gateway.incoming import Incoming
from gateway.inspector import Inspector
from gateway.rules import Finding, Rules
from gateway.sources import Facts, discover
from schemas.errors import Conflict, NotFound
from schemas.events import ExplainedEvent
from schemas.schedules import Gate, SourceConfig
from schemas.states import Verdict
from schemas.store import events, schedules
from schemas.store.db import Database


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """What the same delivery would become now; without a verdict where that needs what was not stored."""

    verdict: Verdict | None
    reason_code: str | None
    reason: str | None
    steps: list[Finding]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event and why; `today` is null while its schedule has the same rules, and when it is gone."""

    event_id: uuid.UUID
    verdict: Verdict
    reason_code: str | None
    reason: str | None
    steps: list[Finding]
    today: Today | None


class Explanations:
    """Explains what was delivered."""

    def __init__(self, db: Database, inspector: Inspector) -> None:
        self._db = db
        self._inspector = inspector

    async def explain(self, event_id: uuid.UUID) -> Explanation:
        """Explain one event; raises NotFound, and Unavailable when its body is in the object store and that is away."""
        event = await self._with_body(await events.explained(self._db, event_id))
        gate = (await schedules.gates(self._db, [event.schedule_id])).get(event.schedule_id)
        incoming = intake.as_it_came(event.headers, event.query, event.body, event.received_at)
        is_changed = gate is not None and gate.rules_id != event.rules_id and event.reason_code not in _AT_THE_GATE
        return Explanation(
            event_id=event.id,
            verdict=event.verdict,
            reason_code=event.reason_code,
            reason=event.reason,
            steps=list(_steps(event, incoming, gate.source_config if gate else SourceConfig())),
            today=_today(event, gate, incoming) if gate is not None and is_changed else None,
        )

    async def _with_body(self, event: ExplainedEvent) -> ExplainedEvent:
        if event.object is not None:
            keeper = event.duplicate_of if event.reason_code == "same_body" else None
            with contextlib.suppress(NotFound, Conflict):  # then it is one that was not kept whole
                return msgspec.structs.replace(event, body=(await self._inspector.body(keeper or event.id)).body)
        return event


_AT_THE_GATE = {"too_large", "bad_signature", "malformed"}
_NOT_WHOLE = "they are not evaluated again, for the body was not kept whole"


def _steps(event: ExplainedEvent, incoming: Incoming, config: SourceConfig) -> Iterator[Finding]:
    """Say what each check found, up to the one that turned the delivery away."""
    yield Finding("token", "it fires this schedule")
    reason, code = event.reason or "", event.reason_code
    if code == "too_large":
        yield Finding("size", reason)
        return
    yield Finding("size", f"{event.size} bytes were within the limit")
    if code == "bad_signature":
        yield Finding("signature", reason)
        return
    let_in = f"let in, as the mode was observe: {event.observed}"
    yield Finding("signature", let_in if event.observed else f"it passed as source {event.source}")
    if code == "malformed":
        yield Finding("payload", reason)
        return
    yield Finding("payload", f"read as {event.kind.value}")
    yield Finding("event type", event.event_type or "none given")
    if event.verdict is not Verdict.HANDSHAKE and code != "paused":
        rules = Rules(filter=event.filter, mapping=event.mapping, dedupe=event.dedupe, split=event.split)
        yield from _by_rules(rules, event, event.source, incoming, config)
    yield Finding("dedupe key", event.dedupe_key or "none given: every delivery counts")
    if event.duplicate_of is not None:
        yield Finding("first", f"event {event.duplicate_of}")
    yield Finding("verdict", f"{event.verdict.value}: {reason}" if reason else event.verdict.value)


def _by_rules(
    rules: Rules, event: ExplainedEvent, source: str, incoming: Incoming, config: SourceConfig
) -> list[Finding]:
    if not rules.has_expressions:
        return []
    if len(event.body) != event.size:
        return [Finding("rules", _NOT_WHOLE)]
    known = discover().get(source)
    facts = known.facts(incoming, config) if known else Facts()
    return intake.explain_rules(rules, source, incoming, facts, is_stored=True)


def _today(event: ExplainedEvent, gate: Gate, incoming: Incoming) -> Today:
    rules = Rules.of(gate)
    steps = _by_rules(rules, event, gate.source, incoming, gate.source_config)
    if len(event.body) != event.size:
        return Today(verdict=None, reason_code=None, reason=_NOT_WHOLE, steps=steps)
    if rules.read_a_secret(intake.is_secret):
        return Today(verdict=None, reason_code=None, reason="it reads what is not stored", steps=steps)
    judged = intake.judge_again(gate, incoming)
    return Today(verdict=judged.verdict, reason_code=judged.reason_code, reason=judged.reason, steps=steps)
