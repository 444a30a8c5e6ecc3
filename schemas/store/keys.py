"""The table `api_keys`."""

import uuid
from collections.abc import Collection

import msgspec

from schemas.errors import NotFound
from schemas.keys import Caller, Key
from schemas.states import Role
from schemas.store.db import Db, queries

SQL = queries("keys")


async def create(db: Db, key_id: uuid.UUID, *, name: str, role: Role, digest: bytes, hint: str) -> Key:
    """Write a new key: its SHA-256, never itself."""
    return msgspec.convert(await db.fetchrow(SQL["create"], key_id, name, role, digest, hint), Key)


async def preset(db: Db, key_id: uuid.UUID, *, name: str, digest: bytes, hint: str) -> None:
    """Make sure that this admin key exists."""
    await db.execute(SQL["preset"], key_id, name, digest, hint)


async def has_admin(db: Db) -> bool:
    """Say whether anybody can administer."""
    return bool(await db.fetchval(SQL["has_admin"]))


async def list_all(db: Db) -> list[Key]:
    """Read all keys, newest first."""
    return [msgspec.convert(row, Key) for row in await db.fetch(SQL["list_all"])]


async def find_caller(db: Db, digest: bytes) -> Caller | None:
    """Find who has the key with this SHA-256."""
    row = await db.fetchrow(SQL["caller"], digest)
    return None if row is None else msgspec.convert(row, Caller)


async def revoke(db: Db, key_id: uuid.UUID) -> None:
    """End a key now; raises NotFound."""
    if await db.fetchval(SQL["revoke"], key_id) is None:
        raise NotFound(f"There is no API key {key_id}.")


async def touch(db: Db, key_ids: Collection[uuid.UUID]) -> None:
    """Note that these keys were used just now."""
    await db.execute(SQL["touch"], list(key_ids))
