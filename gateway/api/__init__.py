"""Our own HTTP API under `/v1`, one file per resource; `routers` lists them all."""

from litestar.handlers import HTTPRouteHandler

from gateway.api import events, keys, overviews, pipelines, purges, runs, schedules, tokens

handlers: list[HTTPRouteHandler] = [
    *pipelines.handlers,
    *schedules.handlers,
    *tokens.handlers,
    *keys.handlers,
    *runs.handlers,
    *events.handlers,
    *overviews.handlers,
    *purges.handlers,
]
