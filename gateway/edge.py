"""The guard between socket and application: uvicorn's protocol with the deadlines and limits that it lacks.

uvicorn alone waits for ever on a slow client, keeps a header of any size in memory, takes HTTP/0.9 and requests without
Host, and merges trailers into the headers. Here each of those ends in a small problem+json answer and a closed
connection. Long answers (streams) are not limited in time, as long as the client reads.

Cost per request: a few comparisons and one clock reading; one timer per connection, which is moved lazily.
"""

import asyncio
import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


class Phase(Enum):
    """What the connection waits for, as far as reading goes."""

    OPEN = auto()  # nothing of a request has come yet
    HEAD = auto()
    BODY = auto()
    SURPLUS = auto()  # the rest of a body whose answer is already out
    QUIET = auto()  # a request is complete: it is being answered, or the connection is kept alive
    DEAF = auto()  # refused: what still comes is thrown away


class Refused(Exception):
    """A request head breaks a rule; carries what the client is told."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class GuardedProtocol(HttpToolsProtocol):
    """Guard one connection. The class attributes are the limits: seconds, bytes, bytes a second.

    A body may take BODY_S plus the time that its bytes so far need at MIN_RATE: an honest upload over a slow line
    stays ahead of that for any length, a drip does not. LINGER_S is how long the rest of a request may come after its
    answer, and WRITE_S how long a client may read nothing of what waits for it.
    """

    HEAD_S = 10.0
    BODY_S = 30.0
    MIN_RATE = 16 * 1024
    LINGER_S = 5.0
    WRITE_S = 60.0
    HEAD_BYTES = 32 * 1024
    HEAD_COUNT = 100
    PIPELINE = 128
    FRAMING = 12

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = Phase.OPEN
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._fed = 0  # bytes received on this connection
        self._useful = 0  # of those: up to where they were body, or a head that has been judged
        self._chunk_start = self._head_start = self._body_start = 0
        self._refused: Refused | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(Phase.OPEN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop_timers()
        super().handle_websocket_upgrade()
        del self.parser  # it knows us: together we would stay until garbage is collected

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.DEAF or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._chunk_start = self._fed
        self._fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            self._refuse(self._refused or Refused(400, "The request is not valid HTTP/1.1."))
        else:
            self._judge_progress()

    def _judge_progress(self) -> None:
        if self._phase is Phase.QUIET:
            if self.cycle.response_complete:  # line ends between requests, which the parser skips
                self._enter(Phase.OPEN)
        elif self._fed - self._useful > self.HEAD_BYTES:
            self._refuse(Refused(431, f"Headers and trailers may have {self.HEAD_BYTES} bytes."))

    def _should_upgrade(self) -> bool:
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        else:  # bytes of another protocol may follow: answer this request, then close
            self._phase = Phase.DEAF
            self.cycle.keep_alive = False

    # The parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_start, self._useful = self._chunk_start, self._fed
        self._enter(Phase.HEAD)

    def on_headers_complete(self) -> None:
        names = [name for name, _ in self.headers]
        is_chunked = b"transfer-encoding" in names
        try:
            self._judge_size()
            self._judge_head(names)
            if is_chunked:
                self._judge_encoding(names)
        except Refused as refused:
            self._refused = refused
            raise
        super().on_headers_complete()
        self._useful = self._body_start = self._fed
        self._enter(Phase.BODY)
        if is_chunked:
            self.headers = []  # trailers land here, and not among the headers that the application sees

    def on_body(self, body: bytes) -> None:
        self._useful = min(self._fed, self._useful + len(body) + self.FRAMING)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = Phase.QUIET
        super().on_message_complete()

    def _judge_size(self) -> None:
        if self._fed - self._head_start > self.HEAD_BYTES:  # else there is nothing to add up
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.HEAD_BYTES:
                raise Refused(431, f"Headers may have {self.HEAD_BYTES} bytes.")
        if len(self.headers) > self.HEAD_COUNT:
            raise Refused(431, f"At most {self.HEAD_COUNT} headers are read.")
        if len(self.pipeline) >= self.PIPELINE:
            raise Refused(429, "Too many requests wait on this connection.")

    def _judge_head(self, names: list[bytes]) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(400, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise Refused(400, "Exactly one Host header is needed.")
        if hosts and not _HOST.fullmatch(self.headers[names.index(b"host")][1]):
            raise Refused(400, "The Host header is not valid.")
        if b"%00" in self.url:
            raise Refused(400, "The address holds a NUL.")

    def _judge_encoding(self, names: list[bytes]) -> None:
        encoding = self.headers[names.index(b"transfer-encoding")][1]
        if encoding.strip().lower() != b"chunked" or self.parser.get_http_version() == "1.0":
            raise Refused(400, "The only Transfer-Encoding is chunked, and only in HTTP/1.1.")
        if self.parser.should_upgrade():
            raise Refused(400, "A request with a chunked body cannot change the protocol.")

    # The answers

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writes()
        elif self._phase is Phase.BODY and self.cycle.response_complete:
            self._enter(Phase.SURPLUS)

    def timeout_keep_alive_handler(self) -> None:
        self._hang_up()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writes()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse(self, refused: Refused) -> None:
        """Answer and close; behind an earlier request that is still being answered, only make that answer the last."""
        cycle, phase = self.cycle, self._phase
        self._phase = Phase.DEAF
        if cycle is not None and not cycle.response_complete:
            if phase is not Phase.BODY:
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self._hang_up()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif phase is Phase.SURPLUS:
            self._hang_up()
            return
        self._answer(refused)

    def _answer(self, refused: Refused) -> None:
        body = _problem(refused)
        lines = [STATUS_LINE[refused.status]]
        lines += [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines.append(b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(body))
        lines.append(b"connection: close\r\n\r\n")
        self.transport.write(b"".join((*lines, body)))
        if self.transport.can_write_eof():  # closing at once would reset the connection, and the answer could be lost
            self.transport.write_eof()
        self._stop_timers()
        self._write_timer = self.loop.call_later(self.LINGER_S, self.transport.abort)

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_writes()

    # The clock

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()
        if self._timer is None:
            self._timer = self.loop.call_later(self.HEAD_S, self._tick)

    def _due(self) -> float | None:
        if self._phase is Phase.BODY:
            return self._since + self.BODY_S + (self._fed - self._body_start) / self.MIN_RATE
        if self._phase is Phase.SURPLUS:
            return self._since + self.LINGER_S
        if self._phase in (Phase.OPEN, Phase.HEAD):
            return self._since + self.HEAD_S
        return None

    def _tick(self) -> None:
        """Look at the deadline that holds now, and at the latest after HEAD_S again; stop while there is none."""
        self._timer = None
        due = self._due()
        if due is None or self.transport.is_closing():
            return
        left = due - self.loop.time()
        if left <= 0 and self.flow.read_paused:  # the client waits for us
            self._since, self._body_start, left = self.loop.time(), self._fed, self.HEAD_S
        if left > 0:
            self._timer = self.loop.call_later(min(left, self.HEAD_S), self._tick)
        elif self._phase in (Phase.OPEN, Phase.SURPLUS):
            self._hang_up()
        else:
            self._refuse(Refused(408, "The request did not arrive in time."))

    def _watch_writes(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting and self._write_timer is None:
            self._write_timer = self.loop.call_later(self.WRITE_S, self._judge_writes, waiting)

    def _judge_writes(self, waiting: int) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size() < waiting:
            self._watch_writes()
        else:
            self.transport.abort()

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._write_timer = None


def _problem(refused: Refused) -> bytes:
    title = HTTPStatus(refused.status).phrase
    kind = title.lower().replace(" ", "_")
    return msgspec.json.encode(
        {"type": f"/problems/{kind}", "title": title, "status": refused.status, "detail": refused.detail}
    )
