"""The operating system's side of a block host: its process, its connection, its output, its end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from runner.pipes import OutputPipe
from runner.wire import Answer, Frame, FrameBuffer, answers, pack
from schemas.states import LogLevel

ANSWER_LIMIT = 64 << 20

_SLICE = 200  # frames handled before the rest of the event loop gets its turn
_LAST_FRAMES_WAIT = 1.0
_NOT_FOR_USER_CODE = ("PENSTOCK_DATABASE_URL", "PENSTOCK_REDIS_URL", "PENSTOCK_ADMIN_KEY", "PENSTOCK_SECRET_KEYS")


class HostProcess(asyncio.Protocol):
    """A running `runner.host`, the leader of a process group that is killed with it: what blocks start ends, too.

    `on_frame` gets every frame and line of output in order; when it returns a future nothing more is read until that
    is done, so a flood waits in the process that makes it. `on_gone` is called once, after the last frame.
    """

    def __init__(
        self, *, on_frame: Callable[[Answer], asyncio.Future[Any] | None], on_gone: Callable[[], None]
    ) -> None:
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._received = FrameBuffer(answers, limit=ANSWER_LIMIT)
        self._pipes: tuple[OutputPipe, ...] = ()
        self._process: asyncio.SubprocessTransport | None = None
        self._connection: asyncio.Transport | None = None
        self._pauses = 0
        self._has_exited = False
        self._is_disconnected = False
        self._is_gone = False

    async def start(self, directory: Path, *, memory_mb: int) -> None:
        """Start the process. The thread that calls this must live as long as the process shall. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._pipes = (OutputPipe(LogLevel.INFO), OutputPipe(LogLevel.WARNING))
        try:
            await self._spawn(theirs, directory, memory_mb)
            await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self.kill()
            self._is_disconnected = True
            self._close_pipes()
            if self._process is None:
                self._is_gone = True
                self._on_gone()
            raise
        finally:
            theirs.close()
            for pipe in self._pipes:
                os.close(pipe.theirs)
        self._read_pipes()

    def send(self, frame: Frame) -> None:
        """Send one frame; after the end of the process this does nothing."""
        if self._connection is not None and not self._is_disconnected:
            self._connection.write(pack(frame))

    def drain_output(self) -> None:
        """Hand on what the pipes hold now: all that was written before the frame at hand."""
        for pipe in self._pipes:
            for frame in pipe.drain():
                self._deliver(frame)

    def interrupt(self) -> None:
        """Ask it to stop what it executes."""
        if self._process is not None and not self._has_exited:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Tell it that nothing more will come, so that it ends by itself when it is idle."""
        if self._connection is not None and not self._is_disconnected:
            self._connection.write_eof()

    def kill(self) -> None:
        """Kill the process and everything that it started; once it has exited its number may be somebody else's."""
        if self._process is not None and not self._has_exited:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.get_pid(), signal.SIGKILL)

    def explain_exit(self) -> str:
        """Say how the process ended."""
        code = None if self._process is None else self._process.get_returncode()
        if code is None or code >= 0:
            return f"its process exited with code {code}"
        hint = ", often for lack of memory" if code == -signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{hint}"

    async def _spawn(self, theirs: socket.socket, directory: Path, memory_mb: int) -> None:
        stdout, stderr = self._pipes
        arguments = (theirs.fileno(), directory, os.getpid(), memory_mb)
        process, _ = await self._loop.subprocess_exec(
            lambda: _ExitWatch(self._exit),
            *(sys.executable, "-P", "-m", "runner.host", *map(str, arguments)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout.theirs,
            stderr=stderr.theirs,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_USER_CODE)},
        )
        self._process = process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received.feed(data)
        self._handle_frames()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_disconnected = True
        self.kill()  # it exits already, or it has cut itself off
        self._handle_frames()

    def _exit(self) -> None:
        self.kill()
        self._has_exited = True
        if self._pauses and self._connection is not None and not self._is_disconnected:
            self._connection.resume_reading()
        self._loop.call_later(_LAST_FRAMES_WAIT, self._disconnect)
        self._handle_frames()

    def _disconnect(self) -> None:
        """Stop waiting for the end of the stream: something that left the process group holds the connection open."""
        if self._connection is not None and not self._is_disconnected:
            self._connection.abort()

    def _handle_frames(self) -> None:
        for _ in range(_SLICE):
            if self._pauses and not self._has_exited:
                return
            frame = self._next_frame()
            if frame is None:
                self._finish_when_gone()
                return
            self._deliver(frame)
        if self._has_exited:
            self._loop.call_soon(self._handle_frames)
        else:
            self._pause()
            self._loop.call_soon(self._resume)

    def _next_frame(self) -> Answer | None:
        try:
            return self._received.next()
        except msgspec.DecodeError:  # user code wrote to our descriptor
            self.kill()
            return None

    def _deliver(self, frame: Answer) -> None:
        taken = self._on_frame(frame)
        if taken is not None and not self._has_exited:  # what a dead process left is little, and its caller waits
            self._pause()
            taken.add_done_callback(lambda _: self._resume())

    def _pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and self._connection is not None and not self._is_disconnected:
            self._connection.pause_reading()
            for pipe in self._pipes:
                self._loop.remove_reader(pipe.ours)

    def _resume(self) -> None:
        self._pauses -= 1
        if self._pauses or self._has_exited:
            return
        if self._connection is not None and not self._is_disconnected:
            self._connection.resume_reading()
            self._read_pipes()
        self._handle_frames()

    def _read_pipes(self) -> None:
        for pipe in self._pipes:
            if not pipe.is_at_end:
                self._loop.add_reader(pipe.ours, self._read_pipe, pipe)

    def _read_pipe(self, pipe: OutputPipe) -> None:
        for frame in pipe.read():
            self._deliver(frame)
        if pipe.is_at_end:
            self._loop.remove_reader(pipe.ours)

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            self._loop.remove_reader(pipe.ours)
            os.close(pipe.ours)
        self._pipes = ()

    def _finish_when_gone(self) -> None:
        if not (self._has_exited and self._is_disconnected) or self._is_gone:
            return
        self.drain_output()
        self._is_gone = True
        self._close_pipes()
        if self._process is not None:
            self._process.close()
        self._on_gone()


class _ExitWatch(asyncio.SubprocessProtocol):
    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def process_exited(self) -> None:
        self._exited()
