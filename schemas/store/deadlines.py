"""What the clock does to runs of schedules with a `max_queue_age_s` or an `sla_s`."""

import uuid

from schemas.store.db import Db, queries

SQL = queries("deadlines")


async def expire(db: Db, *, most: int) -> list[uuid.UUID]:
    """Fail runs that waited for longer than their schedule lets them, and return which."""
    return [row["id"] for row in await db.fetch(SQL["expire"], most)]


async def mark_late(db: Db, *, most: int, since_s: float, all_active: bool) -> list[uuid.UUID]:
    """Mark runs that passed their SLA in the last `since_s` seconds, or all that are active, and return which."""
    return [row["id"] for row in await db.fetch(SQL["mark_late"], most, float(since_s), all_active)]
