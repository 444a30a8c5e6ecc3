"""Our own HTTP API under `/v1`, one file per resource; `routers` lists them all."""

from litestar.handlers import HTTPRouteHandler

from gateway.api import callbacks, events, keys, pipelines, runs, schedules, tokens

handlers: list[HTTPRouteHandler] = [
    *pipelines.handlers,
    *schedules.handlers,
    *tokens.handlers,
    *keys.handlers,
    *runs.handlers,
    *events.handlers,
    *callbacks.handlers,
]
