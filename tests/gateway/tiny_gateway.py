"""A gateway process around a tiny application: `python -m tests.gateway.tiny_gateway FLAW`, environment as usual."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, get
from litestar.response import Stream

from gateway.draining import Draining
from gateway.errors import exception_handlers
from gateway.server import serve
from schemas.errors import SettingsError, UnsafeDatabase
from schemas.settings import Settings, load

FAILURES = {
    "unsafe": UnsafeDatabase("fsync is off on postgresql://penstock:canary@db/penstock"),
    "bug": ZeroDivisionError("canary=psk_canary-canary-canary"),
}


def create_app(settings: Settings, draining: Draining) -> Litestar:
    flaw = sys.argv[1]
    if flaw == "settings":
        raise SettingsError(f"PENSTOCK_REDIS_URL is missing next to port {settings.port}")

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        if flaw in FAILURES:
            raise FAILURES[flaw]
        yield
        if flaw == "stop":
            raise ZeroDivisionError
        sys.stdout.write("stopped\n")

    @get("/stream")
    async def stream() -> Stream:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: hello\n\n"
            await draining.wait()
            yield b"event: end\n\n"

        return Stream(events(), media_type="text/event-stream")

    @get("/stuck")
    async def stuck() -> Stream:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: hello\n\n"
            await asyncio.Event().wait()

        return Stream(events())

    return Litestar(
        [stream, stuck],
        lifespan=[lifespan],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=None,
    )


def announce(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(load(), create_app, ready=announce)
