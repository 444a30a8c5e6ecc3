"""The ids by which senders mark one delivery, in the order in which we believe them.

Each kind has its own prefix, so that an Idempotency-Key never equals somebody's X-GitHub-Delivery. The ids of one
sender only begin with the name of its source, and are read there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

_HEADERS = (
    ("webhook-id", "webhook"),  # Standard Webhooks 1.0.0
    ("x-github-delivery", "github"),
    ("idempotency-key", "key"),
)
_STRUCTURED = "application/cloudevents+json"


class _CloudEvent(msgspec.Struct):
    """What makes a CloudEvent unique: CloudEvents 1.0.2, section 3.1.1, `source` + `id`."""

    id: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]


def find(headers: Mapping[str, str], body: bytes) -> str | None:
    """Find the delivery's id in its headers or, for a structured CloudEvent, in its body."""
    for header, prefix in _HEADERS:
        if value := headers.get(header):
            return f"{prefix}:{value}"
    event = _binary_cloud_event(headers) or _structured_cloud_event(headers, body)
    return of_cloud_event(event.source, event.id) if event else None


def of_items(source: str, ids: Sequence[str | None]) -> str | None:
    """Return an id for a delivery out of those of all that came in it; None when one of them has none."""
    known = [found for found in ids if found is not None]
    if not known or len(known) < len(ids):
        return None
    return known[0] if len(known) == 1 else of_body(source, "\n".join(known).encode())


def of_cloud_event(source: str, event_id: str) -> str:
    """Make the id of a CloudEvent, which only source and id together make unique."""
    return f"cloudevent:{source}\n{event_id}"


def named(source: str, *ids: str | None) -> str | None:
    """Return the first id that is there, as one of `source`."""
    return next((f"{source}:{found}" for found in ids if found), None)


def of_body(source: str, body: bytes) -> str:
    """Return an id for a delivery whose sender gives none, but never sends the same bytes for two happenings."""
    return f"{source}:sha256:{hashlib.sha256(body).hexdigest()}"


def spellings(text: str) -> list[str]:
    """Return the ways in which an id that somebody saw at a sender may be stored, besides behind its source's name.

    A CloudEvent's needs its source.
    """
    return [text, *(f"{prefix}:{text}" for _, prefix in _HEADERS)]


def _binary_cloud_event(headers: Mapping[str, str]) -> _CloudEvent | None:
    event_id, source = headers.get("ce-id"), headers.get("ce-source")
    return _CloudEvent(event_id, source) if event_id and source else None


def _structured_cloud_event(headers: Mapping[str, str], body: bytes) -> _CloudEvent | None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _STRUCTURED:
        return None
    try:
        return msgspec.json.decode(body, type=_CloudEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
