"""`/api/ws`: what runs and nodes do, as it happens; nothing needs to be asked for.

Without parameters it is all runs from now on, with `?run_id=` one from its beginning to its end, when the socket
closes. `?since=` takes the `cursor` of the last message that was heard: what followed it comes first.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog
from litestar import websocket

from gateway.auth import needs
from gateway.core import Core
from gateway.dialects.brokoli.errors import envelope, finding_run
from gateway.dialects.brokoli.keys import SOCKET_KEYS
from gateway.dialects.brokoli.messages import text_frames
from gateway.errors import Refused, describe_error
from gateway.handling import TheCore
from gateway.tail import Cursor
from gateway.upgrades import GONE, OVERLOADED, AnySocket, is_foreign_page, refuse, send_frames
from schemas import tasks
from schemas.errors import Invalid, PenstockError
from schemas.pages import LARGEST_NUMBER
from schemas.states import Role

log = structlog.get_logger()

ENDED = 1000
_GUARD = needs(Role.VIEWER, SOCKET_KEYS)


@websocket("/api/ws", opt={"guard": _GUARD})
async def watch(socket: AnySocket, core: TheCore) -> None:
    """Hear what all runs do, or one (`run_id`), also what was since a `cursor` (`since`)."""
    try:
        if is_foreign_page(socket, core.urls):
            raise Refused("origin not allowed", status=403, detail=f"Pages that watch come from {core.urls.origin}.")
        await _GUARD(socket, socket.route_handler)
        pipeline_id, events = await _events(socket, core)
    except PenstockError as error:
        await refuse(socket, envelope(describe_error(error)))
        return
    with contextlib.suppress(*GONE):
        await socket.accept()
        pump = asyncio.create_task(_pump(socket, events, pipeline_id))
        try:
            while (await socket.receive())["type"] == "websocket.receive":
                pass  # Brokoli's clients have nothing to say
        finally:
            await tasks.end([pump])


async def _events(socket: AnySocket, core: Core) -> tuple[str, AsyncGenerator[bytes]]:
    """Find what is to be told, and whose pipeline's it is; raises Refused or Unavailable."""
    run_id, since = socket.query_params.get("run_id"), socket.query_params.get("since")
    if not run_id:
        after = _cursor(since)
        await core.tail.begin()
        return "", core.tail.watch(lambda _change: True, after=after)
    with finding_run():
        run = await core.runs.row(run_id)
    return run.pipeline_id, core.feed.watch(run.id, after=_seq(since))


def _cursor(since: str | None) -> Cursor | None:
    try:
        return Cursor.parse(since) if since else None
    except Invalid:
        raise Refused("since is the cursor of a message about all runs; this is not one of ours") from None


def _seq(since: str | None) -> int:
    if not since:
        return 0
    if not (since.isascii() and since.isdigit()):
        raise Refused("since is the cursor of a message about this run: a number")
    return min(int(since[:20]), LARGEST_NUMBER)


async def _pump(socket: AnySocket, events: AsyncGenerator[bytes], pipeline_id: str) -> None:
    """Send what a stream yields, at the pace at which the other side reads, and close behind the end of a run."""
    try:
        async with contextlib.aclosing(events):
            async for chunk in events:
                if ready := text_frames(chunk, pipeline_id):
                    await send_frames(socket, ready)
                if chunk.startswith(b"event: end"):
                    await socket.close(ENDED, "the run has ended")
    except GONE:
        pass
    except Exception as error:
        if not isinstance(error, PenstockError):
            log.exception("a watcher was sent away")
        with contextlib.suppress(*GONE):
            await socket.close(OVERLOADED, "try again later")


handlers = (watch,)
