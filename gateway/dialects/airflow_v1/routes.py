"""Airflow 2's routes, each group in a module of its own, and what everyone may ask: for the version, for the health."""

from typing import Any

import msgspec
from litestar import get

from gateway.airflow.health import health
from gateway.dialects.airflow_v1 import catalog, clearing, runs, tasks
from gateway.handling import TheCore

VERSION = "2.10.5+penstock"  # the API that this is compared with


class Version(msgspec.Struct, frozen=True):
    """Which Airflow this speaks like."""

    version: str = VERSION
    git_version: str | None = None


@get("/api/v1/version")
async def get_version() -> Version:
    """Say which Airflow's API this is."""
    return Version()


@get("/api/v1/health")
async def get_health(core: TheCore) -> dict[str, Any]:
    """Say whether the database answers and a runner is alive, in the places of Airflow's parts."""
    return await health(core)


handlers = (
    get_version,
    get_health,
    *catalog.handlers,
    *runs.handlers,
    *clearing.handlers,
    *tasks.handlers,
)
