"""The outermost ASGI layer: access log without secrets, safe response headers, a request id.

Cheap on purpose, for it sees every request: a line is built only if it is written.
"""

import itertools
import re
import secrets
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Literal

import structlog

from schemas.telemetry import MASK

App = Callable[[Any, Any, Any], Awaitable[None]]

PATH_LIMIT = 300
ERROR_LINES_A_MINUTE = 60
_CLIENT_GONE = 499
_SERVER_ERROR = 500
_SWITCHED = 101
_ANSWERS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_TOKEN_URL = re.compile(r"^(/hooks/[^/]*/|/callbacks/[^/]*/|/api/pipeline_schedules/[^/]*/pipeline_runs/).+", re.DOTALL)
_SECRET_SEGMENT = re.compile(r"[^/]*(?:pst_|psk_)[^/]*|[^/]{40,}|(?<![^/])[0-9a-f]{32}(?![^/])")


def redact_path(path: str) -> str:
    """Mask what follows the schedule on a token URL, and each segment that looks like a token or is as long as one."""
    return _SECRET_SEGMENT.sub(MASK, _TOKEN_URL.sub(rf"\1{MASK}", path))[:PATH_LIMIT]


class AccessLog:
    """Wrap an ASGI application.

    `mode` is the setting `access_log`; `errors` are answers from 400 on. Those are sampled in every mode, per status,
    so that whoever guesses tokens cannot fill the disk: the next line tells in `suppressed` how many are missing.
    """

    def __init__(
        self, app: App, *, mode: Literal["off", "errors", "all"], clock: Callable[[], float] = monotonic
    ) -> None:
        self._app = app
        self._threshold = {"off": 1000, "errors": 400, "all": 0}[mode]
        self._clock = clock
        self._samplers: dict[int, _Sampler] = {}
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._log = structlog.get_logger().bind()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        started = self._clock()
        path, status = scope["path"], 0
        request_id = f"{self._prefix}-{next(self._numbers):x}"
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_marked(message: Any) -> None:
            nonlocal status
            if message["type"] in _ANSWERS:
                status = message.get("status", _SWITCHED)
                message["headers"] = _complete(message.get("headers", ()), request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except BaseException:
            status = status or _SERVER_ERROR
            raise
        finally:
            status = status or _CLIENT_GONE
            if status >= self._threshold:
                self._write(scope, path, status=status, started=started)

    def _write(self, scope: Any, path: str, *, status: int, started: float) -> None:
        now = self._clock()
        suppressed = 0
        if status >= 400:
            sampler = self._samplers.setdefault(status, _Sampler(now))
            if not sampler.admit(now):
                return
            suppressed = sampler.forget()
        client = scope.get("client")
        self._log.info(
            "request",
            method=scope.get("method", "GET"),
            path=redact_path(path),
            status=status,
            duration_ms=round((now - started) * 1000, 2),
            bytes=_declared_length(scope["headers"]),
            client=client[0] if client else None,
            **({"suppressed": suppressed} if suppressed else {}),
        )


class _Sampler:
    """Admit so many lines a minute and count the others."""

    def __init__(self, now: float) -> None:
        self._minute = now
        self._lines = 0
        self._suppressed = 0

    def admit(self, now: float) -> bool:
        if now - self._minute >= 60:
            self._minute, self._lines = now, 0
        self._lines += 1
        if self._lines <= ERROR_LINES_A_MINUTE:
            return True
        self._suppressed += 1
        return False

    def forget(self) -> int:
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def _complete(headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    """Litestar's headers are lower-case already, as ASGI demands."""
    present = {name for name, _ in headers}
    missing = [pair for pair in _HEADERS if pair[0] not in present]
    return [*headers, *missing, (b"x-request-id", request_id.encode())]


def _declared_length(headers: Any) -> int | None:
    length = next((value for name, value in headers if name == b"content-length"), b"")
    return int(length) if length.isdigit() else None
