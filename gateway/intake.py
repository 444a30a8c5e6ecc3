"""What a delivery is, decided from its bytes alone: no I/O, no state.

In this order: whose signature, how it can be read, what it says it is, whether it may become a run.
"""

import datetime as dt
import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from gateway.credentials import TOKEN_PREFIX
from gateway.expressions import Budget, Subject
from gateway.incoming import Incoming, Unwrapped
from gateway.rules import Finding, Judgement, Rules, judge
from gateway.sources import Facts, Item, Source, discover
from schemas import payload
from schemas.errors import BadSignature, Malformed, PenstockError
from schemas.events import Delivery, PlannedRun, fit_dedupe_key
from schemas.ids import new_id
from schemas.notify import MASK
from schemas.payload import Kind
from schemas.schedules import Gate
from schemas.states import OnPaused, Verdict, VerificationMode

EXPLAINED_ITEMS = 10
MOST_ITEMS = 10_000  # of one delivery, all written in one statement
MOST_ITEM_BYTES = 32 << 20  # of all of them: each may repeat what stands around it
PAUSED = "the schedule is paused"
_TOO_MANY = f"There are more than {MOST_ITEMS:,} items in it, or they take more than {MOST_ITEM_BYTES >> 20} MiB."
_SECRET_NAME = re.compile(
    r"authorization|cookie|token|secret|signature|passw|passphrase|api[-_]?key|credential|^key$"
    r"|(?<![a-z])(auth|hmac|pwd|sig)(?![a-z])"
)
_OUR_TOKEN = re.compile(r"pst_[0-9A-Za-z]{49}|whk_[0-9a-f]{48}")
_OUR_HOOK = re.compile(r"(/hooks/[^/\s]+/|/api/pipeline_schedules/[^/\s]+/pipeline_runs/|/api/runs/)[^\s/?#]+")
_ID_NAMES = {"idempotency-key", "i-twilio-idempotency-token"}
_NOT_WRAPPED = Unwrapped()


class PlannedItem(msgspec.Struct, frozen=True, kw_only=True):
    """One run that an accepted delivery is to become; `payload` is what it gets of one that is split or wrapped."""

    variables: msgspec.Raw
    key: str | None = None
    payload: bytes | None = None


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """The decision about one delivery, before the database says whether it is the first of its kind."""

    facts: Facts
    kind: Kind
    verdict: Verdict
    reason_code: str | None = None
    reason: str | None = None
    dedupe_key: str | None = None
    observed: str | None = None
    is_split: bool = False
    items: tuple[PlannedItem, ...] = ()
    timings: Mapping[str, int] = {}


class Stopwatch:
    """Takes the time of each check, in microseconds."""

    def __init__(self) -> None:
        self.timings: dict[str, int] = {}
        self._since = time.perf_counter_ns()

    def lap(self, check: str) -> None:
        """Say that a check has ended."""
        now = time.perf_counter_ns()
        self.timings[check] = (now - self._since) // 1000
        self._since = now


def assess(gate: Gate, incoming: Incoming) -> Assessment:
    """Verify, read and judge a delivery; raises BadSignature or Malformed.

    Filter, mapping and dedupe see the body as it came, so that they say the same when its event is explained.
    """
    source, watch = discover()[gate.source], Stopwatch()
    observed = verify(gate, incoming)
    watch.lap("signature")
    kind = payload.classify(incoming.body, incoming.content_type)
    unwrapped = incoming.unwrap(incoming.body) if incoming.unwrap else _NOT_WRAPPED
    watch.lap("payload")
    facts = source.facts(incoming, gate.source_config)
    watch.lap("facts")
    judgement = _judge(gate, source, incoming, facts, unwrapped)
    watch.lap("rules")
    return msgspec.structs.replace(judgement, kind=kind, observed=observed, timings=watch.timings)


def as_it_came(headers: msgspec.Raw, query: str, body: bytes, received_at: dt.datetime) -> Incoming:
    """Make the request of a stored event again; of its method, its address and its secrets nothing is left."""
    return Incoming(
        msgspec.json.decode(headers, type=dict[str, str]),
        body,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        now=received_at.timestamp(),
    )


def judge_again(gate: Gate, incoming: Incoming) -> Assessment:
    """Judge a stored request by the rules of now, without its signature; what cannot be read is rejected."""
    source = discover()[gate.source]
    try:
        kind = payload.classify(incoming.body, incoming.content_type)
    except Malformed as error:
        unread = Assessment(facts=Facts(), kind=Kind.BINARY, verdict=Verdict.ACCEPTED)
        return _turned_away(unread, Verdict.REJECTED, error.code, error.message)
    facts = source.facts(incoming, gate.source_config)
    return msgspec.structs.replace(_judge(gate, source, incoming, facts), kind=kind)


def verify(gate: Gate, incoming: Incoming) -> str | None:
    """Check whose delivery it is.

    Raises BadSignature, or in the mode `observe` returns what it would have said.
    """
    try:
        discover()[gate.source].verify(incoming, gate.source_config)
    except BadSignature as error:
        if gate.source_config.mode is VerificationMode.STRICT:
            raise
        return error.message
    return None


def _judge(
    gate: Gate, source: Source, incoming: Incoming, facts: Facts, unwrapped: Unwrapped = _NOT_WRAPPED
) -> Assessment:
    judged = Assessment(facts=facts, kind=Kind.EMPTY, verdict=Verdict.ACCEPTED)
    if facts.handshake:
        reason = f"{facts.handshake.kind} is a handshake"
        return msgspec.structs.replace(judged, verdict=Verdict.HANDSHAKE, reason=reason, dedupe_key=_key_of(facts))
    if gate.is_paused and gate.on_paused is OnPaused.REJECT:
        return _turned_away(judged, Verdict.FILTERED, "paused", PAUSED)
    if gate.split and source.split:
        return _judge_items(gate, source.split(incoming), incoming, judged, unwrapped.variables)
    found = _by_rules(gate, incoming, facts.delivery_id, facts.event_type, given=unwrapped.variables)
    if found.verdict is not Verdict.ACCEPTED:
        return _turned_away(judged, found.verdict, str(found.reason_code), str(found.reason))
    key = _key_of(facts) if found.dedupe_key is None else fit_dedupe_key(found.dedupe_key)
    item = PlannedItem(variables=found.variables, payload=unwrapped.payload)
    return msgspec.structs.replace(judged, dedupe_key=key, items=(item,))


def _judge_items(
    gate: Gate, items: Iterable[Item], incoming: Incoming, judged: Assessment, given: Mapping[str, Any]
) -> Assessment:
    """Judge each item; the delivery is turned away whole when one of them fails, or none is left."""
    planned: dict[str | int, PlannedItem] = {}
    budget, number, size = Budget(), -1, 0
    for number, item in enumerate(items):
        payload_text = msgspec.json.encode(item.payload)
        size += len(payload_text)
        if number == MOST_ITEMS or size > MOST_ITEM_BYTES:
            return _turned_away(judged, Verdict.REJECTED, "too_many_items", _TOO_MANY)
        part = msgspec.structs.replace(incoming, body=payload_text)
        event_type = item.event_type or judged.facts.event_type
        found = _by_rules(gate, part, item.id or judged.facts.delivery_id, event_type, budget, given=given)
        if found.verdict is Verdict.REJECTED:
            return _turned_away(judged, found.verdict, str(found.reason_code), f"Item {number}: {found.reason}")
        if found.verdict is Verdict.ACCEPTED:
            item_id = item.id if found.dedupe_key is None else found.dedupe_key
            key = fit_dedupe_key(f"item:{item_id}") if item_id else None
            one = PlannedItem(variables=found.variables, key=key, payload=payload_text)
            planned.setdefault(key or number, one)
    if number < 0:
        return _turned_away(judged, Verdict.FILTERED, "no_items", "there is no item in it")
    if not planned:
        return _turned_away(
            judged, Verdict.FILTERED, "filter_false", f"The filter is false for all {number + 1} items."
        )
    runs = tuple(planned.values())
    return msgspec.structs.replace(judged, dedupe_key=_key_of(judged.facts), is_split=True, items=runs)


def _by_rules(
    gate: Gate,
    incoming: Incoming,
    event_id: str | None,
    event_type: str | None,
    budget: Budget | None = None,
    *,
    given: Mapping[str, Any],
) -> Judgement:
    rules = Rules.of(gate)
    if not (rules.has_expressions or given):
        return Judgement(variables=gate.variables)
    subject = Subject(incoming, source=gate.source, event_id=event_id, event_type=event_type, budget=budget)
    return judge(rules, subject, gate.variables, gate.params_schema, is_secret, given=given)


def _turned_away(judged: Assessment, verdict: Verdict, code: str, reason: str) -> Assessment:
    """Without a key: what was turned away must be let in when it comes again and things have changed."""
    return msgspec.structs.replace(judged, verdict=verdict, reason_code=code, reason=reason)


def _key_of(facts: Facts) -> str | None:
    return fit_dedupe_key(facts.delivery_id) if facts.delivery_id else None


def write_down(gate: Gate, incoming: Incoming, assessment: Assessment) -> Delivery:
    """Give a delivery its ids, ready to be committed."""
    event_id = new_id()
    is_one = assessment.verdict is Verdict.ACCEPTED and not assessment.is_split
    return Delivery(
        event_id=event_id,
        schedule_id=gate.schedule_id,
        source=gate.source,
        verdict=assessment.verdict,
        reason_code=assessment.reason_code,
        reason=assessment.reason,
        event_type=assessment.facts.event_type,
        dedupe_key=assessment.dedupe_key,
        content_type=incoming.content_type,
        kind=assessment.kind,
        headers=msgspec.json.encode(keep(incoming.headers)),
        query=keep_query(incoming.query),
        body=incoming.body,
        size=len(incoming.body),
        sha256=hashlib.sha256(incoming.body).digest(),
        timings=msgspec.json.encode(assessment.timings),
        observed=assessment.observed,
        rules_id=gate.rules_id,
        run_id=new_id() if is_one else None,
        pipeline_id=gate.pipeline_id,
        variables=assessment.items[0].variables if is_one else gate.variables,
        event_item=assessment.items[0].payload if is_one else None,
        queue=gate.queue,
        items=_planned_runs(assessment.items) if assessment.is_split else None,
    )


def _planned_runs(items: Iterable[PlannedItem]) -> tuple[PlannedRun, ...]:
    return tuple(
        PlannedRun(
            run_id=new_id(),
            item=number,
            dedupe_key=item.key,
            variables=item.variables,
            event_item=item.payload or b"null",
        )
        for number, item in enumerate(items)
    )


def refused(gate: Gate, incoming: Incoming, error: PenstockError, *, most_bytes: int) -> Delivery:
    """Write down a request that was refused at the gate, with the beginning of its body."""
    kept = incoming.body[:most_bytes]
    return Delivery(
        event_id=new_id(),
        schedule_id=gate.schedule_id,
        source=gate.source,
        verdict=Verdict.REJECTED,
        reason_code=error.code,
        reason=error.message,
        event_type=None,
        dedupe_key=None,
        content_type=incoming.content_type,
        kind=_kind_of(kept, incoming),
        headers=msgspec.json.encode(keep(incoming.headers)),
        query=keep_query(incoming.query),
        body=kept,
        size=len(incoming.body),
        sha256=hashlib.sha256(incoming.body).digest(),
        timings=b"{}",
        observed=None,
        rules_id=None,
        run_id=None,
        pipeline_id=gate.pipeline_id,
        variables=gate.variables,
        queue=gate.queue,
    )


def _kind_of(kept: bytes, incoming: Incoming) -> Kind:
    """Say how a refused body can be read, if it can and is all there."""
    if len(kept) < len(incoming.body):
        return Kind.BINARY
    try:
        return payload.classify(kept, incoming.content_type)
    except Malformed:
        return Kind.BINARY


def explain(gate: Gate, incoming: Incoming, assessment: Assessment) -> list[Finding]:
    """Say step by step what would become of a delivery; what failed before is an error answer already."""
    facts = assessment.facts
    runs = f"{len(assessment.items)} runs" if assessment.is_split else "a run"
    return [
        Finding("token", "it fires this schedule"),
        Finding("size", f"{len(incoming.body)} bytes are within the limit"),
        Finding("signature", _signature_finding(gate, incoming, assessment)),
        Finding("payload", f"read as {assessment.kind.value}"),
        Finding("event type", facts.event_type or "none given"),
        *explain_rules(Rules.of(gate), gate.source, incoming, facts),
        Finding("dedupe key", assessment.dedupe_key or "none given: every delivery counts"),
        Finding("verdict", assessment.reason or f"would become {runs} of {gate.pipeline_id}, unless it came before"),
    ]


def explain_rules(
    rules: Rules, source: str, incoming: Incoming, facts: Facts, *, is_stored: bool = False
) -> list[Finding]:
    """Say what the expressions and their parts are for a delivery, and for the first items of one that is split.

    Of one that `is_stored` the secrets are masked, so that what reads them is left out.
    """
    if facts.handshake or not rules.has_expressions:
        return []
    split = discover()[source].split if source in discover() else None
    if not (rules.split and split):
        subject = Subject(incoming, source=source, event_id=facts.delivery_id, event_type=facts.event_type)
        return rules.explain(subject, is_secret, is_stored=is_stored)
    found: list[Finding] = []
    for number, item in enumerate(islice(split(incoming), EXPLAINED_ITEMS)):
        part = msgspec.structs.replace(incoming, body=msgspec.json.encode(item.payload))
        event_id, event_type = item.id or facts.delivery_id, item.event_type or facts.event_type
        subject = Subject(part, source=source, event_id=event_id, event_type=event_type)
        of_item = rules.explain(subject, is_secret, is_stored=is_stored)
        found += [msgspec.structs.replace(finding, step=f"item {number}: {finding.step}") for finding in of_item]
    return found


def _signature_finding(gate: Gate, incoming: Incoming, assessment: Assessment) -> str:
    if assessment.observed:
        return f"let in, as the mode is observe: {assessment.observed}"
    scheme = discover()[gate.source].scheme(incoming, gate.source_config)
    return f"verified as source {gate.source}" if scheme else "none is asked for"


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Read the headers of an ASGI request; of a repeated one the last counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}


def keep(headers: Mapping[str, str]) -> dict[str, str]:
    """Choose what is stored of the headers: all of them, secrets masked."""
    return {name: MASK if is_secret(name) else _without_ours(value) for name, value in headers.items()}


def keep_query(query: Mapping[str, str]) -> str:
    """Write what is stored of the query, secrets masked."""
    if not query:
        return ""
    shown = {name: MASK if is_secret(name.lower()) else _without_ours(value) for name, value in query.items()}
    return urlencode(shown, safe="*")


def _without_ours(value: str) -> str:
    """Mask our own tokens and links in a header, where a Referer or a proxy may have put them."""
    if TOKEN_PREFIX in value or "whk_" in value:
        value = _OUR_TOKEN.sub(MASK, value)
    return _OUR_HOOK.sub(rf"\1{MASK}", value) if "/" in value else value


@lru_cache(maxsize=1024)
def is_secret(header: str) -> bool:
    """Say whether what has this name, in lower case, is neither stored nor shown."""
    return header not in _ID_NAMES and _SECRET_NAME.search(header) is not None
