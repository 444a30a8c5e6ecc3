"""Our own HTTP API under `/v1`, one file per resource; `routers` lists them all."""

from litestar.handlers import HTTPRouteHandler

from gateway.api import (
    audit,
    backfills,
    blocks,
    callbacks,
    control,
    dry_runs,
    events,
    explanations,
    keys,
    logs,
    outputs,
    overviews,
    pipelines,
    purges,
    replays,
    runs,
    scheduler,
    schedules,
    tokens,
)

handlers: list[HTTPRouteHandler] = [
    *pipelines.handlers,
    *dry_runs.handlers,
    *schedules.handlers,
    *scheduler.handlers,
    *tokens.handlers,
    *keys.handlers,
    *runs.handlers,
    *backfills.handlers,
    *outputs.handlers,
    *blocks.handlers,
    *control.handlers,
    *logs.handlers,
    *events.handlers,
    *replays.handlers,
    *explanations.handlers,
    *audit.handlers,
    *callbacks.handlers,
    *overviews.handlers,
    *purges.handlers,
]
