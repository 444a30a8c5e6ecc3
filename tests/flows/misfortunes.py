"""One pipeline per way in which a block can end badly."""

import ctypes
import os
import sys
import time

import msgspec

from runner import Run, pipeline

raises = pipeline("raises")
exits = pipeline("exits")
leaves_at_once = pipeline("leaves_at_once")
segfaults = pipeline("segfaults")
spins = pipeline("spins")
flaky = pipeline("flaky")
branches = pipeline("branches")


class ChattyParams(msgspec.Struct):
    lines: int = 1000
    every_s: float = 0.0
    padding: int = 0


limited = pipeline("limited", max_active_runs=2)
chatty = pipeline("chatty", params=ChattyParams)


@raises.block
def breaks(run: Run) -> None:
    raise ValueError(f"no such region: {run.event_variables!r}")


@exits.block
def leaves() -> None:
    sys.exit(3)


@leaves_at_once.block
def vanishes() -> None:
    os._exit(7)


@segfaults.block
def crashes() -> None:
    ctypes.string_at(0)


@spins.block(timeout=0.5)
def turns() -> None:
    while True:
        pass


@flaky.block(retries=3, retry_delay=0.05)
def tries(run: Run) -> int:
    print(f"attempt {run.attempt}")
    if run.attempt < 3:
        raise ConnectionError("not yet")
    return run.attempt


@branches.block
def good() -> int:
    return 1


@branches.block
def bad() -> int:
    raise RuntimeError("bad")


@branches.block
def after_good(good: int) -> int:
    return good


@branches.block
def after_bad(bad: int) -> int:
    return bad


@branches.block
def after_both(after_good: int, after_bad: int) -> int:
    return after_good + after_bad


@chatty.block
def talks(run: Run[ChattyParams]) -> int:
    for number in range(run.params.lines):
        run.log.info(f"line {number}" + " " * run.params.padding)
        if run.params.every_s:
            time.sleep(run.params.every_s)
    return os.getpid()


@limited.block
def waits() -> None:
    time.sleep(0.3)
