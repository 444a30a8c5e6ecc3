"""Our own HTTP API under `/v1`, one file per resource; `routers` lists them all."""

from litestar.handlers import HTTPRouteHandler

from gateway.api import dry_runs, events, keys, outputs, pipelines, runs, schedules, tokens

handlers: list[HTTPRouteHandler] = [
    *pipelines.handlers,
    *dry_runs.handlers,
    *schedules.handlers,
    *tokens.handlers,
    *keys.handlers,
    *runs.handlers,
    *outputs.handlers,
    *events.handlers,
]
