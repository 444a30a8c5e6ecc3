"""Server-Sent Events as they are read (HTML Living Standard, section 9.2)."""

import re
from collections.abc import Iterator

import msgspec

_LINE_END = re.compile(rb"\r\n|\n|\r")


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event of a stream; `id` is the last id that was seen, for `Last-Event-ID`."""

    event: str
    id: str | None
    data: str


class EventParser:
    """Takes the bytes of an event stream as they arrive, gives the events."""

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.retry_s = 1.0
        self.has_begun = False
        self.restart()

    def restart(self) -> None:
        """Forget what a broken connection left unfinished; the last id and the pause stay."""
        self._rest = b""
        self._is_first_line = True
        self._ends_with_return = False
        self._id = self.last_event_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that `chunk` completes."""
        self.has_begun = True
        if self._ends_with_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._ends_with_return = chunk.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            event = self._take(line.decode(errors="replace"))
            if event is not None:
                yield event

    def _take(self, line: str) -> ServerSentEvent | None:
        if self._is_first_line:
            self._is_first_line, line = False, line.removeprefix("\ufeff")
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value[:9]) / 1000
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id  # only now: an event cut off in the middle must be sent again
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return ServerSentEvent(event, self.last_event_id, "\n".join(data)) if data else None
