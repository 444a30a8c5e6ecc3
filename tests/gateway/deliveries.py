"""Deliveries as expressions see them, without a gateway around, and a schedule that takes any."""

import json
import uuid
from typing import Any

import msgspec

from gateway.expressions import Subject
from gateway.incoming import Incoming
from schemas.schedules import Gate, SourceConfig
from schemas.states import OnPaused

SECRET = "s3cret"
HEADERS = {"content-type": "application/json", "x-github-event": "push", "authorization": SECRET}
GATE = Gate(
    hash=b"",
    token_id=uuid.uuid4(),
    expires_at=None,
    schedule_id=uuid.uuid4(),
    number=7,
    pipeline_id="quick",
    source="generic",
    source_config=SourceConfig(),
    variables=msgspec.Raw(b'{"region":"eu"}'),
    body_limit=None,
    is_paused=False,
    on_paused=OnPaused.QUEUE,
    queue="default",
)


def subject(body: Any = None, *, raw: bytes | None = None, **fields: Any) -> Subject:
    """Make the subject of a JSON delivery that was received at 2023-11-14T22:13:20Z."""
    incoming = Incoming(
        headers=fields.pop("headers", HEADERS),
        body=json.dumps(body).encode() if raw is None else raw,
        query=fields.pop("query", {}),
        now=1_700_000_000.0,
    )
    return Subject(incoming, source="github", event_id="d-1", event_type="push", **fields)


def is_secret(header: str) -> bool:
    return header == "authorization"
