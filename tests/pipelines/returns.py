"""Blocks whose return value is the point."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import os
import threading
import uuid

import msgspec

from runner import Run, pipeline

returns = pipeline("returns")


class Row(msgspec.Struct):
    id: int


@dataclasses.dataclass
class Point:
    x: int


@returns.block
def every_type() -> dict:
    return {
        "struct": Row(id=1),
        "dataclass": Point(x=1),
        "decimal": decimal.Decimal("1.50"),
        "set": {1},
        "bytes": b"\0\xff",
        "uuid": uuid.UUID(int=1),
        "time": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "tuple": (1, "é"),
        "none": None,
    }


@returns.block
def pid() -> int:
    return os.getpid()


@returns.block
async def same_loop() -> int:
    return id(asyncio.get_running_loop())


@returns.block
def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@returns.block
def environment() -> list:
    return sorted(name for name in os.environ if name.startswith("PENSTOCK_"))


@returns.block
def sleeps_shortly(run: Run) -> int:
    threading.Event().wait(run.variables["seconds"])
    return os.getpid()
