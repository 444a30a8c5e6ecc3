"""Is this process alive, is it ready for deliveries, and how do they fare?

Health is open to everyone, so it says what, never why; metrics want a viewer's key unless a setting opens them.
"""

from typing import Literal

import msgspec
from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from gateway.auth import Connection, needs
from gateway.checks import check
from gateway.handling import TheCore, TheDraining
from schemas.states import Role


class Live(msgspec.Struct, frozen=True):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True):
    """Whether deliveries are taken; without Redis they still are, and `degraded` says so."""

    status: Literal["ready", "degraded", "unready"]
    checks: dict[str, str]


@get("/health/live")
async def live() -> Live:
    """Answer as long as the process runs."""
    return Live()


@get("/health/ready")
async def ready(core: TheCore, draining: TheDraining) -> Response[Ready]:
    """Check Postgres and the migrations (503 without them), Redis (degraded without it) and draining."""
    checks = await check(core.db, core.redis) | {"draining": "yes" if draining.is_set else "no"}
    if draining.is_set or "failed" in (checks["postgres"], checks["migrations"]):
        return Response(Ready("unready", checks), status_code=503, headers={"retry-after": "1"})
    return Response(Ready("degraded" if checks["redis"] == "failed" else "ready", checks))


async def _guard_metrics(connection: Connection, handler: BaseRouteHandler) -> None:
    if not connection.app.state.core.settings.metrics_public:
        await needs(Role.VIEWER)(connection, handler)


@get("/metrics", guards=[_guard_metrics], media_type="text/plain; version=0.0.4")
async def metrics(core: TheCore) -> bytes:
    """Write the metrics of this process in the Prometheus text format."""
    return await core.measure()
