"""Programs that the bench starts and stops, and what the kernel says of them."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from gateway.leash import leashed
from schemas.errors import PenstockError

READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 20.0
LOOK_EVERY_S = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class Program:
    """One Python module as a process, until the end of an `async with`.

    What it says goes to `log`; of one that answers questions only what it says on stderr.
    """

    def __init__(self, *arguments: str, environ: Mapping[str, str], log: Path, answers: bool = False) -> None:
        self.arguments = arguments
        self._environ = environ
        self._log = log
        self._answers = answers
        self._opened: asyncio.subprocess.Process | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def _process(self) -> asyncio.subprocess.Process:
        if self._opened is None:
            raise PenstockError(f"{self.arguments[0]} was not started")
        return self._opened

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        """Start it, on a leash: it dies with the bench."""
        with self._log.open("ab") as log:
            self._opened = await asyncio.create_subprocess_exec(
                *leashed([sys.executable, "-P", "-m", *self.arguments], death_signal=signal.SIGKILL),
                env=self._environ,
                stdin=asyncio.subprocess.PIPE if self._answers else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._answers else log,
                stderr=log,
                start_new_session=True,  # the terminal's Ctrl-C is for us alone
            )

    async def until_it_says(self, words: str) -> None:
        """Wait until its log has these words; raises PenstockError with the end of the log."""
        deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
        while words not in self._said():
            if self._process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise self._failure()
            await asyncio.sleep(LOOK_EVERY_S)

    async def ask(self, question: msgspec.Struct) -> None:
        """Write one line to its stdin."""
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            await self._process.stdin.drain()

    async def answer(self, kind: type[T]) -> T:
        """Read the next line of its stdout; raises PenstockError when it ends instead."""
        line = await self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise self._failure()
        return msgspec.json.decode(line, type=kind)

    async def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        process = self._process
        try:
            if process.returncode is None:
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOPPED_WITHIN_S)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End it and what it has started, at once."""
        if not self._is_over:
            self._is_over = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()

    def _said(self) -> str:
        return self._log.read_text(errors="replace")

    def _failure(self) -> PenstockError:
        tail = "\n".join(self._said().splitlines()[-20:])
        return PenstockError(f"{self.arguments[0]} does not do its part; the end of its log:\n{tail}")


async def ask_program(question: msgspec.Struct, kind: type[T], *arguments: str, log: Path) -> T:
    """Start a program of the bench, ask it one thing and return its answer."""
    async with Program(*arguments, environ=os.environ, log=log, answers=True) as program:
        await program.ask(question)
        return await program.answer(kind)


def cpu_s(pid: int) -> float:
    """Return how many seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, what it shares included."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process with its share of what it shares; the resident memory where that is not told."""
    try:
        return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024
    except PermissionError:
        return resident_bytes(pid)


def descendants(pid: int) -> list[int]:
    """Find the processes that a process has started, and theirs."""
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


def _kilobytes(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name))
