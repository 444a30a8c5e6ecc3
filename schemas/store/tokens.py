"""The table `tokens`, and what a gateway remembers by a token's hash."""

import datetime as dt
import uuid
from collections.abc import Collection, Sequence

import msgspec

from schemas.errors import Conflict, NotFound
from schemas.schedules import Gate, ImportedToken, Token
from schemas.store.db import Db, queries

SQL = queries("tokens")


async def create(
    db: Db,
    token_id: uuid.UUID,
    *,
    schedule_id: uuid.UUID,
    digest: bytes,
    hint: str,
    label: str,
    expires_at: dt.datetime | None,
) -> Token:
    """Write a new token: its SHA-256, never itself."""
    row = await db.fetchrow(SQL["create"], token_id, schedule_id, digest, hint, label, expires_at)
    return msgspec.convert(row, Token)


async def import_(db: Db, token_id: uuid.UUID, *, schedule_id: uuid.UUID, new: ImportedToken) -> tuple[Token, bool]:
    """Write the hash of a token that another product made, and say whether it is new or this schedule has it already.

    Raises Conflict when it belongs to another schedule, or was ended here.
    """
    digest = bytes.fromhex(new.sha256)
    row = await db.fetchrow(SQL["import"], token_id, schedule_id, digest, new.hint, new.label)
    if row is not None:
        return msgspec.convert(row, Token), True
    known = msgspec.convert(await db.fetchrow(SQL["by_hash"], digest), Token)
    if known.schedule_id != schedule_id:
        raise Conflict(f"This token belongs to schedule {known.schedule_id} already; a token fires one schedule.")
    if known.revoked_at is not None:
        raise Conflict("This token was revoked here; make a new one instead.")
    return known, False


async def list_of(db: Db, schedule_id: uuid.UUID) -> list[Token]:
    """Read all tokens of a schedule, newest first."""
    return [msgspec.convert(row, Token) for row in await db.fetch(SQL["of_schedule"], schedule_id)]


async def get(db: Db, token_id: uuid.UUID) -> Token:
    """Read one token; raises NotFound."""
    row = await db.fetchrow(SQL["get"], token_id)
    if row is None:
        raise NotFound(f"There is no token {token_id}.")
    return msgspec.convert(row, Token)


async def revoke(db: Db, token_id: uuid.UUID) -> None:
    """End a token now; raises NotFound."""
    if await db.fetchval(SQL["revoke"], token_id) is None:
        raise NotFound(f"There is no token {token_id}.")


async def expire_after(db: Db, token_id: uuid.UUID, grace_s: int) -> None:
    """End a token in `grace_s` seconds at the latest."""
    await db.execute(SQL["expire_after"], token_id, float(grace_s))


async def gates(db: Db, hashes: Sequence[bytes]) -> dict[bytes, Gate]:
    """Find the live tokens among these SHA-256 hashes."""
    rows = await db.fetch(SQL["gates"], hashes)
    return {row["hash"]: msgspec.convert(row, Gate) for row in rows}


async def touch(db: Db, token_ids: Collection[uuid.UUID]) -> None:
    """Note that these tokens were used just now."""
    await db.execute(SQL["touch"], list(token_ids))


async def registry(db: Db) -> tuple[int, dt.datetime]:
    """Read the version of the registry and the database's clock."""
    version, now = await db.fetchrow(SQL["registry"]) or (0, dt.datetime.now(dt.UTC))
    return version, now
