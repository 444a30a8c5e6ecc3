"""How Penstock fares, in the places of Airflow's parts."""

import datetime as dt
from typing import Any

from gateway.core import Core
from schemas.errors import PenstockError


async def health(core: Core) -> dict[str, Any]:
    """Say whether the database answers and a runner is alive."""
    try:
        runners = await core.overviews.runners()
    except PenstockError:
        return _health("unhealthy", None, None)
    alive = [runner.heartbeat_age_s for runner in runners if runner.is_alive]
    heartbeat = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=min(alive)) if alive else None
    return _health("healthy", "healthy" if alive else "unhealthy", heartbeat)


def _health(database: str, runner: str | None, heartbeat: dt.datetime | None) -> dict[str, Any]:
    at = heartbeat and heartbeat.isoformat()
    return {
        "metadatabase": {"status": database},
        "scheduler": {"status": runner, "latest_scheduler_heartbeat": at},
        "triggerer": {"status": runner, "latest_triggerer_heartbeat": at},
        "dag_processor": {"status": runner, "latest_dag_processor_heartbeat": at},
    }
