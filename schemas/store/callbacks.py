"""The table `callbacks`: taken by runners, read and resent by callers; its rows are made by triggers on `runs`."""

import uuid
from collections.abc import Sequence

import msgspec

from schemas.callbacks import Attempt, Callback, CallbackState, DueCallback, ToldCallback
from schemas.errors import NotFound
from schemas.store.db import Db, queries

SQL = queries("callbacks")
MOST_REMEMBERED = 20


async def take(db: Db, limit: int, *, lease_s: float, busy_hosts: Sequence[str]) -> list[DueCallback]:
    """Take callbacks that are due, at most `limit`; one without a result within `lease_s` is due again."""
    rows = await db.fetch(SQL["take"], limit, lease_s, busy_hosts)
    return [msgspec.convert(row, DueCallback) for row in rows]


async def delivered(db: Db, callback: DueCallback, attempt: Attempt) -> None:
    """Write that a target was told, unless somebody else took the callback meanwhile."""
    await db.execute(SQL["delivered"], callback.id, callback.attempt, [attempt], MOST_REMEMBERED)


async def not_delivered(db: Db, callback: DueCallback, attempt: Attempt, *, retry_in_s: float | None) -> None:
    """Write that an attempt failed and when the next one is due; None gives up."""
    await db.execute(SQL["not_delivered"], callback.id, callback.attempt, [attempt], MOST_REMEMBERED, retry_in_s)


async def resend(db: Db, callback_id: uuid.UUID) -> None:
    """Make a callback due now, whatever became of it; raises NotFound."""
    if await db.fetchval(SQL["resend"], callback_id) is None:
        raise _unknown(callback_id)


async def get(db: Db, callback_id: uuid.UUID) -> ToldCallback:
    """Read a callback with its attempts; raises NotFound."""
    row = await db.fetchrow(SQL["get"], callback_id)
    if row is None:
        raise _unknown(callback_id)
    return msgspec.convert(row, ToldCallback)


async def list_page(
    db: Db, before: uuid.UUID | None, *, run_id: uuid.UUID | None, state: CallbackState | None, limit: int
) -> list[Callback]:
    """Read the newest callbacks before the cursor `before`."""
    return [msgspec.convert(row, Callback) for row in await db.fetch(SQL["page"], before, run_id, state, limit)]


def _unknown(callback_id: uuid.UUID) -> NotFound:
    return NotFound(f"There is no callback {callback_id}.")
