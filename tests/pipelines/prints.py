"""Blocks that write in every way there is."""  # ruff's T201 is what this file shows

# ruff: noqa: T201

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from typing import NoReturn

from runner import Run, pipeline

prints = pipeline("prints")


class Unprintable:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


@prints.block
def in_order(run: Run) -> None:
    print("one")
    run.log.debug("two", n=2)
    print("three", file=sys.stderr)
    logging.getLogger("library").warning("four %s", "!")
    print("five\nsix", end="")
    run.log.error("seven")


@prints.block
def past_python() -> None:
    os.write(1, b"raw \xff\0 bytes\n")
    subprocess.run(["sh", "-c", "echo from a subprocess; echo its error >&2"], check=True)
    ctypes.CDLL(None).puts(b"from C")


@prints.block
def from_a_fork(run: Run) -> None:
    def child() -> None:
        print("printed in a fork")
        run.log.info("logged in a fork")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()


@prints.block
def a_flood() -> None:
    for number in range(100_000):
        print("line", number)


@prints.block
def a_raw_flood() -> None:
    subprocess.run([sys.executable, "-c", "for n in range(100_000): print('line', n)"], check=True)


@prints.block
def from_threads() -> None:
    def write(name: str) -> None:
        for number in range(2000):
            sys.stdout.write(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@prints.block
def from_a_signal_handler() -> None:
    signal.signal(signal.SIGALRM, lambda _signal, _frame: sys.stdout.write("tick\n"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for start in range(0, 3000, 100):
        sys.stdout.write("".join(f"line {number} {'x' * 10_000}\n" for number in range(start, start + 100)))
    signal.setitimer(signal.ITIMER_REAL, 0)


@prints.block
def at_the_last_moment(run: Run) -> None:
    os.write(1, (b"attempt %d %s\n" % (run.attempt, b"x" * 4000)) * 8)


@prints.block
def hostile_text(run: Run) -> None:
    print("nul \0, surrogate \ud800, escape \x1b[31m")
    print("x" * 100_000)
    cycle: dict = {}
    cycle["self"] = cycle
    run.log.info("fields", nul="\0", surrogate="\ud800", bytes=b"\xff", object=Unprintable(), pairs={1: {2}})
    run.log.info("cycle", cycle=cycle)
    run.log.info("large", rows=["x" * 1000] * 1000)
    run.log.info(Unprintable())


@prints.block
def an_exception(run: Run) -> None:
    try:
        raise ValueError("handled")
    except ValueError:
        run.log.exception("it failed", row=3)
