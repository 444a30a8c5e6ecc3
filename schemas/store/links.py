"""The table `links`: how often a signed trigger link may still be used."""

import datetime as dt
import uuid

import msgspec

from schemas.schedules import LinkGate, NewLink
from schemas.store.db import Db, queries

SQL = queries("links")


async def create(db: Db, link_id: uuid.UUID, *, schedule_id: uuid.UUID, new: NewLink) -> dt.datetime:
    """Write a new link and return when it expires, by the database's clock."""
    variables = msgspec.json.encode(new.variables)
    expires_at: dt.datetime = await db.fetchval(
        SQL["create"], link_id, schedule_id, variables, new.max_uses, float(new.expires_in_s)
    )
    return expires_at


async def gate(db: Db, link_id: uuid.UUID) -> LinkGate | None:
    """Read what a link opens; None when it is unknown, expired, revoked or used up."""
    row = await db.fetchrow(SQL["gate"], link_id)
    return None if row is None else msgspec.convert(row, LinkGate)


async def use(db: Db, link_id: uuid.UUID) -> bool:
    """Count one use; False when there is none left, or the link has ended meanwhile."""
    return await db.fetchval(SQL["use"], link_id) is not None
