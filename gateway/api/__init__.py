"""Our own HTTP API under `/v1`, one file per resource; `routers` lists them all."""

from litestar.handlers import HTTPRouteHandler

from gateway.api import (
    audit,
    blocks,
    callbacks,
    control,
    events,
    keys,
    logs,
    pipelines,
    runs,
    scheduler,
    schedules,
    tokens,
)

handlers: list[HTTPRouteHandler] = [
    *pipelines.handlers,
    *schedules.handlers,
    *scheduler.handlers,
    *tokens.handlers,
    *keys.handlers,
    *runs.handlers,
    *blocks.handlers,
    *control.handlers,
    *logs.handlers,
    *events.handlers,
    *audit.handlers,
    *callbacks.handlers,
]
