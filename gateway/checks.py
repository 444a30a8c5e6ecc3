"""What readiness asks of the parts, each within a second."""

import asyncio
from collections.abc import Awaitable

from redis.asyncio import Redis

import migrations
from schemas.errors import PenstockError
from schemas.queue import REDIS_FAULTS
from schemas.store import tokens
from schemas.store.db import Database

TIMEOUT_S = 1.0


async def check(db: Database, redis: Redis) -> dict[str, str]:
    """Look at Postgres, the migrations and Redis; each is `ok` or `failed`."""
    postgres, at_head, pong = await asyncio.gather(
        _holds(_answers(db)), _holds(migrations.is_at_head(db)), _holds(_pings(redis))
    )
    names = {"postgres": postgres, "migrations": at_head, "redis": pong}
    return {name: "ok" if holds else "failed" for name, holds in names.items()}


async def _holds(condition: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await condition
    except (PenstockError, *REDIS_FAULTS):
        return False


async def _answers(db: Database) -> bool:
    return (await tokens.registry(db))[0] > 0


async def _pings(redis: Redis) -> bool:
    return bool(await redis.ping())
