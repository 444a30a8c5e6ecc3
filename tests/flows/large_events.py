"""Events of every size, read by blocks of every kind."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    marker: str = ""


reads_event = pipeline("reads_event")
waits_with_event = pipeline("waits_with_event", params=Params)


@reads_event.block
def described(run: Run[None]) -> Any:
    return run.event_variables


@reads_event.block
def raw(run: Run[None]) -> dict[str, Any]:
    body = run.read_event_bytes()
    return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@reads_event.block
async def decoded(run: Run[None]) -> dict[str, Any]:
    directly, elsewhere = run.read_event(), await asyncio.to_thread(run.read_event)
    return {"type": type(directly).__name__, "length": len(directly), "is_same": directly == elsewhere}


@waits_with_event.block
def first(run: Run[Params]) -> None:
    while not Path(run.params.marker).exists():
        time.sleep(0.05)


@waits_with_event.block
def second(run: Run[Params], first: None) -> int:
    return len(run.read_event_bytes())
