"""What every handler is given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from gateway.core import Core
from gateway.draining import Draining
from schemas import tasks
from schemas.keys import Caller

AnyRequest = Request[Any, Any, Any]
TheCore = NamedDependency[Core]
TheCaller = NamedDependency[Caller]
TheDraining = NamedDependency[Draining]


@asynccontextmanager
async def listening(request: AnyRequest) -> AsyncIterator["asyncio.Task[None]"]:
    """Have a task that ends when the caller hangs up; the body must have been read before."""
    hung_up = asyncio.create_task(_hang_up(request))
    try:
        yield hung_up
    finally:
        await tasks.end([hung_up])


async def _hang_up(request: AnyRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
