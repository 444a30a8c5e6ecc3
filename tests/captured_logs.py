"""Logs of the process under test, in memory."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import structlog

from schemas import telemetry
from schemas.settings import Settings


@contextlib.contextmanager
def captured_logs(*, role: str = "test", stream: io.StringIO | None = None, **settings: Any) -> Iterator[io.StringIO]:
    """Configure logging as a process would, into memory, until the block ends."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    out = io.StringIO() if stream is None else stream
    telemetry.configure(Settings(**settings), role=role, stream=out)
    try:
        yield out
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.captureWarnings(False)
        root.handlers = handlers
        root.setLevel(level)
