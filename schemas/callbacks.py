"""Whom a run told, and how that went: callbacks as they are stored and as `/v1/callbacks` shows them."""

import datetime as dt
import uuid
from enum import StrEnum
from typing import TypeVar

import msgspec

from schemas.notify import mask_url

AnyCallback = TypeVar("AnyCallback", bound="Callback")


class CallbackKind(StrEnum):
    """How a target is told."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    EMAIL = "email"


class CallbackState(StrEnum):
    """Where a callback stands; `failed` is final until somebody resends it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Reason(StrEnum):
    """What a target is told of."""

    FINISHED = "finished"
    PASSED_SLA = "passed_sla"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: the HTTP status, why there is none, and the beginning of what was answered."""

    at: dt.datetime
    status: int | None
    duration_ms: int
    error: str | None
    answer: str


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One target of one run; `mask` hides what is secret in it before it is shown."""

    id: uuid.UUID
    run_id: uuid.UUID
    kind: CallbackKind
    reason: Reason
    target: str
    state: CallbackState
    attempts: int
    next_attempt_at: dt.datetime | None
    delivered_at: dt.datetime | None
    created_at: dt.datetime
    last_attempt: Attempt | None


class ToldCallback(Callback, frozen=True, kw_only=True):
    """The same with its newest attempts, the oldest first."""

    history: tuple[Attempt, ...]


def mask(callback: AnyCallback) -> AnyCallback:
    """Hide what is secret in a target."""
    if callback.kind is CallbackKind.EMAIL:
        return callback
    target = mask_url(callback.target, is_secret=callback.kind is CallbackKind.SLACK)
    return msgspec.structs.replace(callback, target=target)


class DueCallback(msgspec.Struct, frozen=True, kw_only=True):
    """A callback whose next attempt is this runner's; `failures` came before it, `attempt` fences its result."""

    id: uuid.UUID
    run_id: uuid.UUID
    kind: CallbackKind
    reason: Reason
    target: str
    host: str
    attempt: int
    failures: int


class SigningSecret(msgspec.Struct, frozen=True):
    """What a receiver verifies with, as Standard Webhooks libraries take it; every callback is signed with each."""

    secret: str
