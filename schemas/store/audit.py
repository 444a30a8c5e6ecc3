"""The table `audit`."""

import datetime as dt
import uuid
from typing import Any

import msgspec

from schemas.audit import Action, AuditEntry
from schemas.ids import new_id
from schemas.keys import Caller
from schemas.store.db import Db, queries

SQL = queries("audit")


async def record(db: Db, caller: Caller, action: Action, subject: str, details: dict[str, Any]) -> None:
    """Write down what a caller does, in the transaction in which it is done; `details` hold no secret."""
    written = msgspec.json.encode(details)
    await db.execute(SQL["record"], new_id(), caller.id, caller.name, caller.role, action, subject, written)


async def list_page(
    db: Db,
    before: uuid.UUID | None,
    *,
    subject: str | None,
    action: str | None,
    caller: str | None,
    created_after: dt.datetime | None,
    created_before: dt.datetime | None,
    limit: int,
) -> list[AuditEntry]:
    """Read the newest entries before the cursor `before`."""
    rows = await db.fetch(SQL["page"], before, subject, action, caller, created_after, created_before, limit)
    return [msgspec.convert(row, AuditEntry) for row in rows]
