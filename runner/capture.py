"""Everything that user code says inside a block host, in the order in which it says it, as frames to the runner."""

import io
import logging
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from runner.lines import LINE_LIMIT, LineSplitter, clean
from runner.wire import LogFrame, pack
from schemas.states import LogLevel

LOST_RUNNER_EXIT = 70


class Outbox:
    """The sending end of a host's connection: whole frames only, from any thread and from signal handlers.

    `sent` is called after each frame, when an exception may leave again.
    """

    def __init__(self, connection: socket.socket, sent: Callable[[], None]) -> None:
        self._connection = connection
        self._sent = sent
        self._lock = threading.RLock()
        self._sender: int | None = None
        self._late: deque[bytes | bytearray] = deque()

    @property
    def is_sending(self) -> bool:
        """Tell whether this very thread is in the middle of a frame."""
        return self._sender == threading.get_ident()

    def send(self, data: bytes | bytearray) -> None:
        """Send one or more whole frames; waits while the runner does not read. Without a runner the process ends."""
        with self._lock:
            self._late.append(data)
            if self.is_sending:  # a signal handler or finalizer of the user runs inside sendall
                return
            self._sender = threading.get_ident()
            try:
                while self._late:
                    self._connection.sendall(self._late.popleft())
            except OSError:
                os._exit(LOST_RUNNER_EXIT)
            finally:
                self._sender = None
        self._sent()


class LineWriter(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr; `fileno` and `buffer` lead to the pipe of the same name."""

    def __init__(self, outbox: Outbox, level: LogLevel, descriptor: int) -> None:
        self._outbox = outbox
        self._level = level
        self._descriptor = descriptor
        self._splitter = LineSplitter()
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> io.FileIO:
        return io.FileIO(self._descriptor, "w", closefd=False)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with self._lock:
            self._send(self._splitter.feed(text))
        return len(text)

    def finish(self) -> None:
        """Send an unfinished line."""
        with self._lock:
            self._send(self._splitter.flush())

    def _send(self, lines: list[str]) -> None:
        if lines:
            self._outbox.send(b"".join([pack(LogFrame(level=self._level, message=line)) for line in lines]))


class Capture:
    """Redirects print, the standard library's logging and `run.log` to an outbox, in one order."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._stdout = LineWriter(outbox, LogLevel.INFO, 1)
        self._stderr = LineWriter(outbox, LogLevel.WARNING, 2)
        self._is_forked = False

    def install(self) -> None:
        """Take over this process; a fork of it gets plain streams again, which the runner reads from the pipes."""
        sys.stdout = self._stdout
        sys.stderr = self._stderr
        logging.basicConfig(handlers=[_LoggingHandler(self.log)], level=logging.INFO, format="%(message)s")
        os.register_at_fork(after_in_child=self._leave_fork)

    def finish(self) -> None:
        """Send what is left of both streams."""
        self._stdout.finish()
        self._stderr.finish()

    def log(self, level: LogLevel, message: str, fields: dict[str, Any]) -> None:
        """Send one line of `run.log`."""
        message = clean(message if isinstance(message, str) else _safe_repr(message))
        if self._is_forked:
            print(message, fields or "")  # noqa: T201  (the fork's own stdout)
        else:
            self._outbox.send(pack(LogFrame(level=level, message=message, fields=_storable(fields) if fields else {})))

    def _leave_fork(self) -> None:
        self._is_forked = True
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


class _LoggingHandler(logging.Handler):
    def __init__(self, log: Callable[[LogLevel, str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
        except Exception:  # noqa: BLE001  (wrong arguments for the format string: the standard library prints, too)
            message = f"{record.msg!r} % {_safe_repr(record.args)}: {traceback.format_exc(limit=0)}"
        self._log(_level_of(record.levelno), message, {"logger": record.name})


def _level_of(number: int) -> LogLevel:
    if number >= logging.ERROR:
        return LogLevel.ERROR
    if number >= logging.WARNING:
        return LogLevel.WARNING
    return LogLevel.INFO if number >= logging.INFO else LogLevel.DEBUG


def _storable(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn fields into JSON data; whatever is none becomes its repr, and too much of it becomes cut text."""
    try:
        plain = _clean_all(msgspec.to_builtins(fields, enc_hook=_safe_repr, str_keys=True))
        text = msgspec.json.encode(plain)
    except Exception:  # noqa: BLE001  (cycles, odd keys, properties that raise)
        plain = {clean(name): _safe_repr(value) for name, value in fields.items()}
        text = msgspec.json.encode(plain)
    return plain if len(text) <= LINE_LIMIT else {"fields": clean(text.decode())}


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _clean_all(item) for name, item in value.items()}
    return [_clean_all(item) for item in value] if isinstance(value, list) else value


def _safe_repr(value: Any) -> str:
    try:
        return clean(repr(value))
    except Exception as error:  # noqa: BLE001  (a user's __repr__)
        return f"<{type(value).__name__}, its repr raises {type(error).__name__}>"
