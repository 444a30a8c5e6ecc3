"""Blocks that do to their process what users' code does one day."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runner import Run, pipeline

misbehaves = pipeline("misbehaves")


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Timeout(Exception):
    """Named like one of the runner's own reasons."""


@misbehaves.block
def raises() -> None:
    def inner() -> None:
        raise ValueError("no region \0 \ud800")

    inner()


@misbehaves.block
def raises_own_timeout() -> None:
    raise Timeout("mine")


@misbehaves.block
def raises_without_text() -> None:
    raise BadText


@misbehaves.block
def recurses() -> None:
    recurses()


@misbehaves.block
def calls_sys_exit() -> None:
    sys.exit(3)


@misbehaves.block
async def calls_sys_exit_async() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


@misbehaves.block
async def interrupts_keyboard() -> None:
    raise KeyboardInterrupt


@misbehaves.block
async def closes_generator() -> None:
    raise GeneratorExit


@misbehaves.block
def calls_os_exit() -> None:
    sys.stdout.write("last words")
    os.write(1, b"without newline")
    os._exit(7)


@misbehaves.block
def segfaults() -> None:
    ctypes.string_at(0)


@misbehaves.block
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@misbehaves.block
def closes_its_connection() -> None:
    os.closerange(3, 64)
    time.sleep(60)


@misbehaves.block
def writes_into_its_connection(run: Run) -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, bytes.fromhex(run.variables["hex"]))
        except OSError:
            continue
    time.sleep(60)


@misbehaves.block
def spins() -> None:
    while True:
        pass


@misbehaves.block
async def spins_async() -> None:
    while True:
        pass


@misbehaves.block
def sleeps(run: Run) -> None:
    run.log.info("asleep")
    try:
        time.sleep(60)
    finally:
        run.log.info("cleaned up")


@misbehaves.block
async def sleeps_async(run: Run) -> None:
    run.log.info("asleep")
    try:
        await asyncio.sleep(60)
    finally:
        run.log.info("cleaned up")


@misbehaves.block
async def swallows_cancel(run: Run) -> None:
    run.log.info("asleep")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@misbehaves.block
def swallows_everything(run: Run) -> None:
    run.log.info("asleep")
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001  (what this block is for)
            continue


@misbehaves.block
def returns_after_cancel(run: Run) -> str:
    run.log.info("asleep")
    try:
        time.sleep(60)
    except BaseException:  # noqa: BLE001  (what this block is for)
        return "done anyway"


@misbehaves.block
def prints_for_ever() -> None:
    while True:
        sys.stdout.write("x" * 60 + "\n")


@misbehaves.block
def starts_a_process(run: Run) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run.log.info("started", pid=sleeper.pid)
    sleeper.wait()


@misbehaves.block
def forks_a_holder() -> None:
    """Leave the process group with the connection still open, unseen by Python, then die."""
    if ctypes.CDLL(None).fork() == 0:
        os.setsid()
        time.sleep(8)
        os._exit(0)
    os._exit(9)


@misbehaves.block
def eats_memory() -> int:
    return len(bytearray(2 << 30))


@misbehaves.block
def returns_an_object() -> dict:
    return {"rows": [1, {"where": Path()}]}


@misbehaves.block
def returns_a_cycle() -> list:
    rows: list = []
    rows.append(rows)
    return rows


@misbehaves.block
def returns_a_huge_number() -> dict:
    return {"a": 2**80}


@misbehaves.block
def returns_too_much() -> bytes:
    return bytes(17 << 20)


@misbehaves.block
def returns_almost_too_much() -> bytes:
    return bytes((16 << 20) - 100)
