"""The ASGI application: the only place where the parts of the gateway meet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.di import Provide

import migrations
from gateway import answers, api, dialects, health, hooks, openapi, stream, websocket
from gateway.auth import provide_caller
from gateway.bootstrap import preset_admin_key
from gateway.core import Core
from gateway.draining import Draining
from gateway.errors import exception_handlers
from schemas.settings import MAX_BODY_LIMIT, Settings

_HANDLERS = (
    hooks.greeting_with_token,  # before the hooks, for which Litestar would add OPTIONS by itself
    hooks.greeting_with_header,
    hooks.hook_with_token,
    hooks.hook_with_header,
    answers.call_back,
    stream.run_stream,
    stream.stream,
    websocket.watch,
    health.live,
    health.ready,
    health.metrics,
    openapi.openapi_json,
    *api.handlers,
)


def create_app(settings: Settings, draining: Draining) -> Litestar:
    """Build the application; nothing connects before its lifespan begins."""
    core = Core(settings)
    spoken = dialects.spoken(settings)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await migrations.check(settings.database_url)
        await core.start()
        await preset_admin_key(core.db, settings)
        farewell = asyncio.create_task(_tell_watchers(core, draining))
        try:
            yield
        finally:
            farewell.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await farewell
            await core.stop()

    app = Litestar(
        [*_HANDLERS, *dialects.routers(spoken)],
        lifespan=[lifespan],
        dependencies={
            "core": Provide(lambda: core, sync_to_thread=False, use_cache=True),
            "caller": Provide(provide_caller, sync_to_thread=False),
            "draining": Provide(lambda: draining, sync_to_thread=False, use_cache=True),
        },
        exception_handlers=exception_handlers(dialects.envelopes(spoken)),
        request_max_body_size=MAX_BODY_LIMIT,
        openapi_config=openapi.CONFIG,
        logging_config=None,
    )
    app.state.core = core
    return app


async def _tell_watchers(core: Core, draining: Draining) -> None:
    await draining.wait()
    core.drain()
