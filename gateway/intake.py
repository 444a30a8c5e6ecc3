"""What a delivery is, decided from its bytes alone: no I/O, no state.

In this order: whose signature, how it can be read, what it says it is, whether it may become a run.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from gateway.credentials import TOKEN_PREFIX
from gateway.incoming import Incoming
from gateway.sources import Facts, discover
from schemas import payload
from schemas.events import Delivery, fit_dedupe_key
from schemas.ids import new_id
from schemas.notify import MASK
from schemas.payload import Kind
from schemas.schedules import Gate
from schemas.states import OnPaused, Verdict

PAUSED = "the schedule is paused"
_SECRET_NAME = re.compile(r"authorization|cookie|token|secret|signature|password|api-?key|credential")
_OUR_TOKEN = re.compile(r"pst_[0-9A-Za-z]{49}")
_HOOKS = "/hooks/"
_OUR_HOOK = re.compile(r"(/hooks/[^/\s]+/)[^\s/?#]+")
_ID_NAMES = {"idempotency-key"}


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """The decision about one delivery, before the database says whether it is the first of its kind."""

    facts: Facts
    kind: Kind
    verdict: Verdict
    reason: str | None
    dedupe_key: str | None


def assess(gate: Gate, incoming: Incoming) -> Assessment:
    """Verify, read and judge a delivery; raises BadSignature or Malformed."""
    source = discover()[gate.source]
    source.verify(incoming, gate.source_config)
    kind = payload.classify(incoming.body, incoming.content_type)
    facts = source.facts(incoming, gate.source_config)
    verdict, reason = Verdict.ACCEPTED, None
    if facts.handshake:
        verdict, reason = Verdict.HANDSHAKE, f"{facts.handshake.kind} is a handshake"
    elif gate.is_paused and gate.on_paused is OnPaused.REJECT:
        verdict, reason = Verdict.FILTERED, PAUSED
    dedupe_key = fit_dedupe_key(facts.delivery_id) if facts.delivery_id else None
    return Assessment(facts=facts, kind=kind, verdict=verdict, reason=reason, dedupe_key=dedupe_key)


def write_down(gate: Gate, incoming: Incoming, assessment: Assessment) -> Delivery:
    """Give a delivery its ids, ready to be committed."""
    return Delivery(
        event_id=new_id(),
        schedule_id=gate.schedule_id,
        source=gate.source,
        verdict=assessment.verdict,
        reason=assessment.reason,
        event_type=assessment.facts.event_type,
        # A delivery that a pause turned away must be let in when it comes again.
        dedupe_key=None if assessment.reason == PAUSED else assessment.dedupe_key,
        content_type=incoming.content_type,
        kind=assessment.kind,
        headers=msgspec.json.encode(keep(incoming.headers)),
        body=incoming.body,
        run_id=new_id() if assessment.verdict is Verdict.ACCEPTED else None,
        pipeline_id=gate.pipeline_id,
        variables=gate.variables,
        queue=gate.queue,
    )


def explain(gate: Gate, assessment: Assessment, size: int) -> list[dict[str, str]]:
    """Say step by step what would become of a delivery; what failed before is an error answer already."""
    facts = assessment.facts
    steps = [
        ("token", "it fires this schedule"),
        ("size", f"{size} bytes are within the limit"),
        ("signature", f"verified as source {gate.source}" if gate.source_config.secrets else "none is asked for"),
        ("payload", f"read as {assessment.kind.value}"),
        ("event type", facts.event_type or "none given"),
        ("dedupe key", assessment.dedupe_key or "none given: every delivery counts"),
        ("verdict", assessment.reason or f"would become a run of {gate.pipeline_id}, unless it came before"),
    ]
    return [{"step": step, "finding": finding} for step, finding in steps]


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Read the headers of an ASGI request; of a repeated one the last counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}


def keep(headers: Mapping[str, str]) -> dict[str, str]:
    """Choose what is stored of the headers: all of them, secrets masked."""
    return {name: MASK if _is_secret(name) else _without_ours(value) for name, value in headers.items()}


def _without_ours(value: str) -> str:
    """Mask our own tokens and links in a header, where a Referer or a proxy may have put them."""
    if TOKEN_PREFIX in value:
        value = _OUR_TOKEN.sub(MASK, value)
    return _OUR_HOOK.sub(rf"\1{MASK}", value) if _HOOKS in value else value


@lru_cache(maxsize=1024)
def _is_secret(header: str) -> bool:
    return header not in _ID_NAMES and _SECRET_NAME.search(header) is not None
