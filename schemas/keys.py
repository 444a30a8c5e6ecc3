"""API keys: who may call `/v1`, and in which role."""

import datetime as dt
import uuid
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.states import Role


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/keys`."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    role: Role = Role.VIEWER


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is listed: never itself, only a hint."""

    id: uuid.UUID
    name: str
    role: Role
    hint: str
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class ShownKey(msgspec.Struct, frozen=True, kw_only=True):
    """The one answer that carries an API key."""

    id: uuid.UUID
    key: str
    name: str
    role: Role


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as found by the hash of the key."""

    id: uuid.UUID
    name: str
    role: Role
