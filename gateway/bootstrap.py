"""The first admin key: brought by a setting, or made once on a machine that has none."""

import asyncpg

from gateway import credentials
from schemas.ids import new_id
from schemas.settings import Settings
from schemas.states import Role
from schemas.store import keys
from schemas.store.db import Db, prepare


async def preset_admin_key(db: Db, settings: Settings) -> None:
    """Make sure that the key in PENSTOCK_ADMIN_KEY works, unless it was revoked."""
    secret = settings.admin_key
    if secret:
        await keys.preset(db, new_id(), name="preset", digest=credentials.digest(secret), hint=credentials.hint(secret))


async def first_admin_key(database_url: str) -> str | None:
    """Make an admin key when there is none, and return it: it is shown once and never again."""
    connection = await asyncpg.connect(database_url)
    try:
        await prepare(connection)
        if await keys.has_admin(connection):
            return None
        secret = credentials.new_key()
        await keys.create(
            connection,
            new_id(),
            name="first",
            role=Role.ADMIN,
            digest=credentials.digest(secret),
            hint=credentials.hint(secret),
        )
        return secret
    finally:
        await connection.close()
