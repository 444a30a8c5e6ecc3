"""The gateway's HTTP API seen from outside: answers, problems as exceptions, and event streams that survive a cut.

Only the standard library speaks HTTP here: a larger HTTP library takes longer to import than a command to answer.
"""

import http.client
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from gateway.cli.event_stream import EventParser, ServerSentEvent
from gateway.cli.output import clean
from schemas.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    PenstockError,
    SettingsError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from schemas.runs import RunError

REQUEST_TIMEOUT_S = 30.0
SILENCE_S = 45.0  # a gateway pings every 15 s: this much silence is a dead connection
RECONNECTS = 8
LONGEST_PAUSE_S = 10.0
PAGE_SIZE = 200

_HTTP_FAILURES = (OSError, http.client.HTTPException)
T = TypeVar("T")


class WaitTimeout(PenstockError):
    """It had not ended when the time to wait was over."""

    code = "wait_timeout"


class RunFailed(PenstockError):
    """The run that was waited for did not succeed."""

    code = "run_failed"


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer with its whole body."""

    status: int
    headers: dict[str, str]
    content: bytes


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    next_cursor: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    """RFC 9457, as far as it is shown."""

    title: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()


class Client:
    """Talks to one gateway with one API key, one connection per request.

    Raises Unavailable when nobody answers, and for an answer that is a problem the domain error that it stands for.
    """

    def __init__(self, url: str, key: str, *, timeout: float = REQUEST_TIMEOUT_S) -> None:
        self.origin = _origin(_split(url))
        self.url = url.rstrip("/")
        self._key = key
        self.has_key = bool(key)
        self._timeout = timeout

    def request(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Send a request, `body` as JSON, and return the parsed answer; None when it is empty."""
        content = self.fetch(method, path, query=query, body=body)
        return read_json(content, self.origin) if content else None

    def fetch(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> bytes:
        """Send a request like `request`, but return the JSON text as the gateway wrote it."""
        payload = None if body is None else msgspec.json.encode(body)
        headers = self._headers() | ({} if payload is None else {"Content-Type": "application/json"})
        answer = self._exchange(method, self.url + path + _query(query), payload, headers)
        if not 200 <= answer.status < 300:
            raise self.problem(answer)
        return answer.content

    def patient(self, timeout: float) -> "Client":
        """Make the same client for requests that take longer."""
        return Client(self.url, self._key, timeout=timeout)

    def download(self, path: str, *, query: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the bytes of an answer piece by piece."""
        url = self.url + path + _query(query)
        with closing(_connection(url, self._timeout)) as connection:
            try:
                connection.request("GET", _target(url), headers=self._headers())
                with closing(connection.getresponse()) as response:
                    if response.status != 200:
                        raise self.problem(Answer(response.status, dict(response.headers), response.read()))
                    while chunk := response.read1(65_536):
                        yield chunk
                    if response.length:
                        raise Unavailable(f"{self.origin} broke off with {response.length:,} bytes to go.")
            except _HTTP_FAILURES as error:
                raise self._unreachable(error) from None

    def pages(self, path: str, *, query: Mapping[str, Any], limit: int | None) -> Iterator[msgspec.Raw]:
        """Yield the items of a list, page after page, until `limit` (None: all of them)."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
            content = self.fetch("GET", path, query={**query, "limit": size, "cursor": cursor})
            page = read(content, _Page)
            yield from page.items[:left]
            cursor, left = page.next_cursor, None if left is None else left - len(page.items)
            if cursor is None:
                return

    def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post `body` as it is to an absolute URL, without the API key; return the answer, whatever it is."""
        return self._exchange("POST", url, body, {"accept": "application/json", **headers})

    def stream(
        self,
        path: str,
        *,
        last_event_id: str | None = None,
        deadline: float | None = None,
        cut: Callable[[str], None] | None = None,
    ) -> Generator[ServerSentEvent]:
        """Yield the events of a stream up to and including `end`; after a cut, go on behind the last one seen.

        `deadline` is a time of `time.monotonic()`; `cut` is told why, once for each time that nobody answers. Raises
        WaitTimeout when the deadline passes, Unavailable when the stream cannot be opened at first, or not again after
        several attempts with growing pauses.
        """
        parser, failures, why = EventParser(last_event_id), 0, ""
        while True:
            opened = None
            try:
                for chunk in self._receive(path, parser, deadline):
                    opened = opened or time.monotonic()
                    for event in parser.feed(chunk):
                        failures, why = 0, ""
                        yield event
                        if event.event == "end":
                            return
            except Unavailable as error:
                if not parser.has_begun:
                    raise
                if cut is not None and not why:
                    cut(why := error.message.splitlines()[0])
            if opened and time.monotonic() - opened > LONGEST_PAUSE_S:  # it was quiet, but it was there
                failures, why = 0, ""
            failures += 1
            if failures > RECONNECTS:
                raise Unavailable(f"The event stream of {self.origin} broke off and did not come back.")
            pause = min(parser.retry_s * 2 ** (failures - 1), LONGEST_PAUSE_S)
            time.sleep(min(pause, _time_left(deadline)))

    def position(self, path: str) -> str:
        """Ask where a stream of many stands: what it has not told yet comes behind this id. Raises Unavailable."""
        parser = EventParser()
        with closing(self._receive(path, parser, deadline=None)) as chunks:
            for chunk in chunks:
                list(parser.feed(chunk))
                if parser.last_event_id is not None:
                    return parser.last_event_id
        raise Unavailable(f"{self.origin} does not say where its event stream begins.")

    def _receive(self, path: str, parser: EventParser, deadline: float | None) -> Generator[bytes]:
        url = self.url + path
        headers = self._headers() | {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if parser.last_event_id is not None:
            headers["Last-Event-ID"] = parser.last_event_id
        parser.restart()
        with closing(_connection(url, min(SILENCE_S, _time_left(deadline)))) as connection:
            try:
                connection.request("GET", _target(url), headers=headers)
                socket = connection.sock  # the response takes it over, but its timeout is set here
                with closing(connection.getresponse()) as response:
                    if response.status != 200:
                        raise self.problem(Answer(response.status, dict(response.headers), response.read()))
                    while chunk := response.read1(65_536):
                        yield chunk
                        socket.settimeout(min(SILENCE_S, _time_left(deadline)))
            except _HTTP_FAILURES as error:
                _time_left(deadline)
                raise self._unreachable(error) from None

    def _exchange(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        with closing(_connection(url, self._timeout)) as connection:
            try:
                with suppress(BrokenPipeError):  # who refuses a large body early has answered all the same
                    connection.request(method, _target(url), body=body, headers=headers)
                response = connection.getresponse()
                return Answer(response.status, dict(response.headers), response.read())
            except _HTTP_FAILURES as error:
                raise self._unreachable(error, _origin(_split(url))) from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "penstock"}
        return headers | {"Authorization": f"Bearer {self._key}"} if self._key else headers

    def _unreachable(self, error: Exception, origin: str | None = None) -> Unavailable:
        return Unavailable(
            f"No gateway answers at {origin or self.origin} ({_reason(error)}).\n"
            "Start one with `penstock up`, or name another with --url or PENSTOCK_URL."
        )

    def problem(self, answer: Answer, *, hints: bool = True) -> PenstockError:
        """Turn an answer that is no success into the domain error that it stands for; hints are about API keys."""
        try:
            problem = msgspec.json.decode(answer.content, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = _Problem()
        if not (problem.title or problem.detail):
            return self._foreign(answer)
        message = clean(problem.detail or problem.title)
        message += "".join(f"\n  {clean(e.pointer)}: {_lines(e.message)}" for e in problem.errors)
        if hints and answer.status == 401 and not self._key:
            message += "\nNo API key was sent: set PENSTOCK_API_KEY or PENSTOCK_API_KEY_FILE, or use --key-stdin."
        if hints and answer.status == 403:
            message += "\nUse a key with a larger role: `penstock keys create --role ...` makes one."
        return _ERRORS.get(answer.status, PenstockError)(message)

    def _foreign(self, answer: Answer) -> PenstockError:
        kind = _ERRORS.get(answer.status, PenstockError) if answer.status in (429, 502, 503, 504) else PenstockError
        moved = (
            clean(answer.headers.get("Location", answer.headers.get("location", ""))).partition("?")[0]
            if 300 <= answer.status < 400
            else ""
        )
        hint = f" It points to {moved}." if moved else ""
        return kind(
            f"{self.origin} answered {answer.status}, but not as a Penstock gateway does.{hint}\n"
            "Check --url and PENSTOCK_URL, and that no other server listens there."
        )


def path(*segments: str) -> str:
    """Build the path of a resource under `/v1` from parts that a user may have typed."""
    if not all(segment.strip(".") for segment in segments):
        raise NotFound("An id cannot be empty or only dots.")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def read(content: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Read an answer of the gateway as `kind`; raise PenstockError when it has another shape."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PenstockError(
            f"The gateway's answer cannot be read: {clean(str(error))}.\n"
            "Gateway and command may be of different versions; `-o json` shows what it sent."
        ) from None


def read_error(raw: msgspec.Raw) -> RunError | None:
    """Read the `error` of a run or block."""
    return None if bytes(raw) == b"null" else read(raw, RunError)


def read_json(content: bytes, origin: str) -> Any:
    """Parse JSON, numbers beyond a double included; raise PenstockError for anything else."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise PenstockError(f"{origin} did not answer with JSON; is it a Penstock gateway?") from None


_ERRORS: dict[int, type[PenstockError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: TooLarge,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_usable = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) and not parts.username
        )
    except ValueError:
        is_usable = False
    if not is_usable:
        raise SettingsError("The URL of the gateway must look like http://127.0.0.1:8787 or https://example.org.")
    return parts


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = _split(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _query(query: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _time_left(deadline: float | None) -> float:
    left = SILENCE_S if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise WaitTimeout
    return left


def _lines(message: str) -> str:
    """Keep the lines of a message, for a caret in one may point at another."""
    return "\n    ".join(map(clean, message.splitlines()))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionResetError):
        return "the connection broke off"
    if isinstance(error, http.client.HTTPException):
        return "what answers there is not HTTP"
    return clean(str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error))
