"""Keeps the processes of one machine alive: gateway and runner as children, the embedded servers beside them."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from gateway.leash import leashed
from gateway.server_process import Report, ServerFailed, ServerProcess

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_S = 10.0  # who ran this long has earned a quick restart again
GRACE_S = 5.0  # beyond a child's own time to drain
CHECK_S = 0.5

GATEWAY = ("gateway", "gateway")
RUNNER = ("runner",)


class Child:
    """One Python program of ours, `python -P -m NAME ...`, started again with growing pauses when it ends by itself.

    It writes to `output`, a file descriptor. `exits` counts how often it ended without being asked to.
    """

    def __init__(
        self, arguments: Sequence[str], *, environ: Mapping[str, str], output: int, drain_s: float, report: Report
    ) -> None:
        self.name = arguments[0]
        self.exits = 0
        self._command = leashed([sys.executable, "-P", "-m", *arguments], death_signal=signal.SIGKILL)
        self._environ = environ
        self._output = output
        self._patience = drain_s + GRACE_S
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it, and keep it running."""
        self._process = await self._open()
        self._task = asyncio.create_task(self._keep_running(self._process))

    async def stop(self) -> None:
        """Ask it to end and wait while it drains; kill it when that takes too long or this call is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(self._patience):
                await process.wait()
        except TimeoutError:
            self._report(f"{self.name} did not stop within {self._patience:.0f} s and is killed")
        finally:
            _kill_group(process.pid)
            await process.wait()

    async def _keep_running(self, process: asyncio.subprocess.Process) -> None:
        clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE_S
        while True:
            begun = clock()
            code = await process.wait()
            _kill_group(process.pid)
            self.exits += 1
            if clock() - begun >= STEADY_S:
                pause = FIRST_PAUSE_S
            self._report(f"{self.name} ended ({_describe(code)}) and is started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
            self._process = process = await self._open()

    async def _open(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,  # the terminal's Ctrl-C is for us alone
        )


class ServerKeeper:
    """Starts an embedded server again when it died: out of memory, or killed by hand."""

    def __init__(self, servers: Sequence[ServerProcess], *, report: Report) -> None:
        self._servers = servers
        self._report = report
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Cease to watch; the servers stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            for server in self._servers:
                if not server.alive:
                    self._report(f"{server.title} died and is started again")
                    await self._revive(server)

    async def _revive(self, server: ServerProcess) -> None:
        try:
            await asyncio.to_thread(server.start)
        except ServerFailed as error:
            self._report(error.message)
            await asyncio.sleep(LONGEST_PAUSE_S)


class Supervisor:
    """Runs gateway and runner, and keeps an eye on the embedded servers, which belong to the caller."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        servers: Sequence[ServerProcess] = (),
        programs: Sequence[Sequence[str]] = (GATEWAY, RUNNER),
        output: int = 2,
        drain_s: float,
        report: Report,
    ) -> None:
        self.children = [
            Child(program, environ=environ, output=output, drain_s=drain_s, report=report) for program in programs
        ]
        self._keeper = ServerKeeper(servers, report=report)

    async def start(self) -> None:
        """Start everything; it is up when the gateway says that it is ready."""
        await self._keeper.start()
        for child in self.children:
            await child.start()

    async def stop(self) -> None:
        """Stop gateway and runner at the same time; a second request, by cancelling this, kills them."""
        await self._keeper.stop()
        await asyncio.gather(*(child.stop() for child in self.children))


def _kill_group(leader: int) -> None:
    """End what a child has started and left behind: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
