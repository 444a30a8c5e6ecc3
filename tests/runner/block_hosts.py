"""Calls of blocks, and what comes back of them."""

import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from runner.hosts import Hosts
from runner.wire import Call, Failed, LogFrame, Outcome, Reason, Succeeded

PIPELINES = Path(__file__).parent.parent / "pipelines"


def call(pipeline: str, block: str, *, directory: Path = PIPELINES, **fields: Any) -> Call:
    """Make a call of a block in the file named like its pipeline."""
    path = "ok.py" if pipeline == "orders" else f"{pipeline}.py"
    version = hashlib.sha256((directory / path).read_bytes()).hexdigest()
    return Call(path=path, version=version, pipeline_id=pipeline, block_id=block, run_id=uuid.uuid4(), **fields)


def returned(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    return msgspec.msgpack.decode(outcome.output.data or b"")


def failed(outcome: Outcome, reason: Reason) -> Failed:
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is reason, outcome
    return outcome


def nowhere(_frame: LogFrame) -> None:
    """Drop a line."""


@contextlib.asynccontextmanager
async def running(directory: Path = PIPELINES, **options: Any) -> AsyncIterator[Hosts]:
    hosts = Hosts(directory, **{"warm": 1, "limit": 1, "grace": 0.3, **options})
    await hosts.start()
    try:
        yield hosts
    finally:
        await hosts.stop()
