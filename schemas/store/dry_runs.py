"""The table `dry_runs`: what gateways ask and runners answer; a row lives only as long as somebody waits."""

import uuid
from collections.abc import Iterable

import msgspec

from schemas.dry_runs import MOST_ATTEMPTS, DryProgress, DryRequest, DryResult, DryRun
from schemas.ids import new_id
from schemas.store.db import Db, queries

SQL = queries("dry_runs")


async def ask(db: Db, pipeline_id: str, asked: DryRun, *, within_s: float) -> uuid.UUID:
    """Write a request that is of use for so many seconds, and return its id."""
    request_id = new_id()
    event = None if asked.event_variables is msgspec.UNSET else msgspec.json.encode(asked.event_variables)
    variables = msgspec.json.encode(asked.variables)
    await db.execute(SQL["ask"], request_id, pipeline_id, variables, event, asked.rows, within_s)
    return request_id


async def take(db: Db, runner_id: uuid.UUID, pipeline_ids: Iterable[str]) -> DryRequest | None:
    """Take the oldest request that nobody executes; None when there is none."""
    row = await db.fetchrow(SQL["take"], runner_id, list(pipeline_ids), MOST_ATTEMPTS)
    return None if row is None else msgspec.convert(row, DryRequest)


async def is_wanted(db: Db, request_id: uuid.UUID, runner_id: uuid.UUID) -> bool:
    """Tell whether somebody still waits for an answer of this runner."""
    return bool(await db.fetchval(SQL["is_wanted"], request_id, runner_id))


async def answer(db: Db, request_id: uuid.UUID, runner_id: uuid.UUID, result: DryResult) -> None:
    """Write the result, unless nobody waits for it from this runner any more."""
    await db.execute(SQL["answer"], request_id, runner_id, msgspec.json.encode(result))


async def progress(db: Db, request_id: uuid.UUID) -> DryProgress | None:
    """Look how far a request is; None when it is gone."""
    row = await db.fetchrow(SQL["progress"], request_id, MOST_ATTEMPTS)
    return None if row is None else msgspec.convert(row, DryProgress)


async def forget(db: Db, request_id: uuid.UUID) -> None:
    """Delete a request with its result, and those that expired long ago."""
    await db.execute(SQL["forget"], request_id)
