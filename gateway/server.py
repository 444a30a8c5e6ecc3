"""The gateway as a process: bind, start, serve, drain, end.

uvicorn is started from code and not by its command line, for three reasons: our protocol guards the edge, a signal must
reach open streams before uvicorn waits for them, and a start that fails must say why in one line.
"""

import asyncio
import errno
import logging
import math
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, NoReturn

import structlog
import uvicorn

from gateway.access import AccessLog, App
from gateway.draining import Draining
from gateway.edge import GuardedProtocol
from gateway.websocket_edge import FRAME_BYTES, PING_S, PONG_S, GuardedWebSocket
from schemas import garbage, telemetry
from schemas.errors import PenstockError, SettingsError
from schemas.settings import Settings

BACKLOG = 2048
OPEN_FILES = 65_536
KEEP_ALIVE_S = 65  # longer than the idle time of common proxies, so that they close first
_ABSENT_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

CreateApp = Callable[[Settings, Draining], App]


def serve(settings: Settings, create_app: CreateApp, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until a signal asks to end, and return once all is drained; `ready` is called with the URL.

    When the process cannot start, one line on stderr says why, and SystemExit(1) is raised.
    """
    telemetry.configure(settings, role="gateway")
    draining = Draining()
    try:
        listeners = bind(settings.host, settings.port)
        app = _Start(AccessLog(create_app(settings, draining), mode=settings.access_log))
    except PenstockError as error:
        _give_up(error)
    _allow_many_files()
    server = Server(_configure(app, settings), draining, ready=ready)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    try:
        server.run(sockets=listeners)
    except SystemExit:
        _give_up(app.failure or SettingsError("the start failed; the log says why"))


class Server(uvicorn.Server):
    """uvicorn's server whose first signal starts the draining, and whose second ends it; both end with exit code 0."""

    def __init__(self, config: uvicorn.Config, draining: Draining, *, ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._draining = draining
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        url = address(sockets[0]) if sockets else ""
        garbage.collect_less()
        structlog.get_logger().info("listening", url=url)
        if self._ready is not None:
            self._ready(url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, do not raise the signal again afterwards: a drained process has ended well."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._draining.start()


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind `port` on every address of `host`, without listening yet; port 0 takes a free one.

    Raises SettingsError that names what is wrong: before anything else was started.
    """
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                listeners.append(_bind_one(family, (where[0], port, *where[2:])))
            except OSError as error:
                if error.errno not in _ABSENT_ADDRESS:
                    raise
            else:
                port = listeners[0].getsockname()[1]
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    if not listeners:
        raise SettingsError(f"cannot listen on {host} port {port}: this machine does not have that address")
    return listeners


def address(listener: socket.socket) -> str:
    """Show where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Start:
    """Pass everything on, and keep the reason when the application's own start fails."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._has_started = False
        self.failure: BaseException | None = None

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._watch(scope, receive, send)
        return self._app(scope, receive, send)

    async def _watch(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_plain(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._has_started = True
            elif message["type"].endswith(".failed"):
                message["message"] = ""  # a traceback as text; the exception itself follows
            await send(message)

        try:
            await self._app(scope, receive, send_plain)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            if self._has_started:
                structlog.get_logger().error("the stop failed", exc_info=error)
            raise


def _configure(app: App, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=GuardedProtocol,
        ws=GuardedWebSocket,
        ws_max_size=FRAME_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


def _bind_one(family: int, where: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
    except OSError:
        listener.close()
        raise
    return listener


def _allow_many_files() -> None:
    """Each open stream is a file, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what is said better elsewhere: a failed start, and requests that the end of the process cut off."""
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and record.msg != "Application startup failed. Exiting."


def _give_up(reason: BaseException) -> NoReturn:
    while isinstance(reason, BaseExceptionGroup) and len(reason.exceptions) == 1:  # Litestar starts in a task group
        reason = reason.exceptions[0]
    text = str(reason)
    if not isinstance(reason, PenstockError):
        structlog.get_logger().error("the start failed", exc_info=reason)
        text = f"the start failed, see the log: {type(reason).__name__}: {reason}"
    line = " ".join(telemetry.redact(text).split())
    sys.stderr.write(f"penstock gateway: {line}\n")
    raise SystemExit(1)
