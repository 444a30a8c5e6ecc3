"""The integers and names that Mage shows for what our runs know by id."""

from collections.abc import Sequence

from gateway.core import Core
from gateway.dialects.mage.wire import Names
from schemas.runs import Run


async def names_of(core: Core, shown: Sequence[Run]) -> Names:
    """Find what the schedules and backfills of these runs are called."""
    schedule_ids = {run.schedule_id for run in shown if run.schedule_id}
    backfill_ids = {run.backfill_id for run in shown if run.backfill_id}
    return Names(
        await core.catalog.schedule_names(schedule_ids) if schedule_ids else {},
        await core.backfills.numbers(backfill_ids) if backfill_ids else {},
    )
