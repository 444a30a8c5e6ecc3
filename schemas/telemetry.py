"""Logging of every role: one JSON line per event off a terminal, a readable line on one, and no secret in either.

structlog and the standard library's loggers (uvicorn, asyncio, litestar, arq) end in the same processors, so whatever
writes a line, it is redacted. Text that comes from outside belongs into values (`log.info("refused", reason=text)`);
should it end up in the event itself, control characters are escaped all the same.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog
from structlog.dev import plain_traceback
from structlog.typing import EventDict, Processor, WrappedLogger

from schemas.settings import Settings

MASK = "***"
TEXT_LIMIT = 32_768
DEPTH_LIMIT = 8
_CHATTY = ("uvicorn.error", "uvicorn.asgi", "asyncio", "arq", "httpcore", "litestar")
_INDISCREET = ("uvicorn.access", "httpx")  # they write paths and query strings as they came
_SECRET_NAME = re.compile(r"token|secret|authorization|cookie|signature|password|api[_-]?key|admin_key", re.IGNORECASE)
_RULES = (  # a text that every match contains, the pattern, what is left of it
    ("pst_", re.compile(r"pst_[0-9A-Za-z]{8,}"), "pst_" + MASK),
    ("whk_", re.compile(r"whk_[0-9a-f]{8,}"), "whk_" + MASK),
    ("psk_", re.compile(r"psk_[^\s\"']{16,}"), "psk_" + MASK),
    ("/pipeline_runs/", re.compile(r"(/pipeline_schedules/[^\s/]*/pipeline_runs/)[^\s/?#\"']+"), rf"\1{MASK}"),
    ("://", re.compile(r"(://[^\s:/@\"']*:)[^\s\"'/]*@"), rf"\1{MASK}@"),
    ("=", re.compile(r"((?:token|secret|signature|password|api_?key)=[\"']?)[^&\s\"']+", re.IGNORECASE), rf"\1{MASK}"),
    ("earer ", re.compile(r"(bearer )[^\s\"',]+", re.IGNORECASE), rf"\1{MASK}"),
)
_UNUSUAL = re.compile(r"[^\x20-\x7e]")


def configure(settings: Settings, *, role: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (default: stdout) as lines whose `process` is `role`.

    `log_format` auto means readable lines on a terminal and JSON elsewhere. May be called again.
    """
    out = sys.stdout if stream is None else stream
    console = settings.log_format == "console" or (settings.log_format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    origin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _Role(role),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    outlet: list[Processor] = [structlog.processors.format_exc_info, _redact_event]
    outlet += [_escape_event, _console_renderer(colors=out.isatty())] if console else [render_json]
    structlog.configure(
        processors=[*origin, *outlet],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: _Lines(out),
    )
    _route_standard_library(level, _Lines(out), origin=origin, outlet=outlet)


def redact(text: str) -> str:
    """Mask what looks like a token, an API key, a password in a URL, or the value of a parameter with such a name."""
    for marker, pattern, replacement in _RULES:
        if marker in text:
            text = pattern.sub(replacement, text)
    return text


def render_json(_logger: WrappedLogger, _name: str, event_dict: EventDict) -> str:
    """Encode one event as a line of JSON; what JSON cannot say is shown as Python would."""
    try:
        return msgspec.json.encode(event_dict, enc_hook=repr).decode()
    except (TypeError, ValueError, OverflowError):  # huge integers, or surrogates from undecodable file names
        return json.dumps({"event": str(event_dict.get("event")), "fields": repr(event_dict)})


class _Role:
    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self, _logger: WrappedLogger, _name: str, event_dict: EventDict) -> EventDict:
        event_dict["process"] = self._role
        return event_dict


class _Lines:
    """Write whole lines and never fail: a full disk or a closed pipe must not fail the request that logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    msg = debug = info = warning = error = critical = exception = log = write


class _StandardHandler(logging.Handler):
    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message must not reach the caller
            record.args = None
            line = self.format(record)
        self._lines.write(line)


def _route_standard_library(level: int, lines: _Lines, *, origin: list[Processor], outlet: list[Processor]) -> None:
    handler = _StandardHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=origin,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *outlet],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    for name in _INDISCREET:
        indiscreet = logging.getLogger(name)
        indiscreet.handlers, indiscreet.propagate, indiscreet.disabled = [], False, True
    logging.captureWarnings(True)


def _console_renderer(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain_traceback)


def _redact_event(_logger: WrappedLogger, _name: str, event_dict: EventDict) -> EventDict:
    return {_clean(key): _redact_value(key, value, 0) for key, value in event_dict.items()}


def _redact_value(key: object, value: Any, depth: int) -> Any:
    if value is None:
        return None
    if _is_secret(key):
        return MASK
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _clean(value)
    if depth >= DEPTH_LIMIT:
        return "..."
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        return {_clean(str(name)): _redact_value(name, inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(None, inner, depth + 1) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _clean(bytes(value).decode("utf-8", "backslashreplace"))
    return _clean(_describe(value))


def _describe(value: object) -> str:
    try:
        return repr(value) if isinstance(value, BaseException) else str(value)
    except Exception:  # noqa: BLE001 - any object may be logged, also one that cannot show itself
        return object.__repr__(value)


@lru_cache(1024)
def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _SECRET_NAME.search(key) is not None


def _clean(text: str) -> str:
    text = redact(text)
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "..."


def _escape_event(_logger: WrappedLogger, _name: str, event_dict: EventDict) -> EventDict:
    return {_printable(key): _escape_value(key, value) for key, value in event_dict.items()}


def _escape_value(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if key == "exception":
            return "\n".join("  " + _printable(line) for line in value.split("\n"))
        return _printable(value)
    if isinstance(value, dict):
        return {_printable(name): _escape_value(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_escape_value("", inner) for inner in value]
    return value


def _printable(text: str) -> str:
    return text if text.isprintable() else _UNUSUAL.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    return character if character.isprintable() else character.encode("unicode_escape").decode()
