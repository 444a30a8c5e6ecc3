"""One server as a child process of ours: started, waited for, stopped, and cleaned up after whoever was killed."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

from gateway.data_directory import DataDirectory
from schemas.errors import PenstockError

Report = Callable[[str], None]

JUST_WAIT = 0  # the signal that only asks whether a process is there
LARGEST_LOG = 10 << 20
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class ServerFailed(PenstockError):
    """A server did not start."""

    code = "server_failed"


def stay_silent(_: str) -> None:
    """Report nothing."""


class ServerProcess:
    """One server process that ends with us; start, stop, kill and restart keep its address.

    All methods block, and are for one caller at a time. Starting waits as long as the process lives: recovery after
    a crash may take minutes.
    """

    title: ClassVar[str]
    program: ClassVar[str]
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]
    stray_signal: ClassVar[signal.Signals]

    def __init__(self, data: DataDirectory, *, report: Report = stay_silent) -> None:
        self.directory = data.path / self.program
        self.log = data.path / f"{self.program}.log"
        self._data = data
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._starter: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs; it may still be starting."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    def start(self) -> None:
        """Start and return when it answers; ServerFailed with the end of its log when it gives up."""
        if self.alive:
            return
        self._end_strays(patience=1.0)
        self._prepare()
        self._process = self._launch()
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut down in order; harsher when it takes too long."""
        for number, patience in (*self.stop_signals, (signal.SIGKILL, 5.0)):
            if not self.alive or self._process is None:
                break
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._release()

    def kill(self) -> None:
        """End it and its children at once, as a crash of the machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._release()
        self._end_strays(patience=0.0)

    def restart(self) -> None:
        """Stop in order, and start again at the same address."""
        self.stop()
        self.start()

    def _binary(self) -> Path:
        raise NotImplementedError

    def _prepare(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _is_ready(self, pid: int) -> bool:
        raise NotImplementedError

    def _launch(self) -> subprocess.Popen[bytes]:
        # The kernel's death signal follows the thread that starts a process, so that thread has to outlive it: a
        # caller's own may be a pool's.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix=f"penstock-{self.program}")
        return self._starter.submit(self._open_process, self._command()).result()

    def _open_process(self, command: list[str]) -> subprocess.Popen[bytes]:
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))
        with open(self.log, "ab", opener=_open_privately) as log:
            return subprocess.Popen(  # noqa: S603 (our own command line)
                command,
                cwd=self._data.path,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for us alone
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        begun, told = time.monotonic(), 0.0
        while not self._is_ready(process.pid):
            if process.poll() is not None:
                raise ServerFailed(f"{self.title} did not start. The end of {self.log}:\n{self._end_of_log()}")
            waited = time.monotonic() - begun
            if waited - told >= 5.0:
                told = waited
                self._report(f"{self.title} is not ready after {waited:.0f} s: {self._end_of_log(lines=1)}")
            time.sleep(0.003)

    def _end_of_log(self, *, lines: int = 8) -> str:
        with open(self.log, "rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def _release(self) -> None:
        self._process = None
        if self._starter is not None:
            self._starter.shutdown()
            self._starter = None

    def _end_strays(self, *, patience: float) -> None:
        """End what an owner that was killed has left behind; the lock says that nobody else needs it."""
        for number, wait in ((JUST_WAIT, patience), (self.stray_signal, patience), (signal.SIGKILL, 10.0)):
            until = time.monotonic() + wait
            while pids := self._strays():
                _signal_all(pids, number)
                if time.monotonic() >= until:
                    break
                time.sleep(0.01)
            else:
                return

    def _strays(self) -> list[int]:
        """Find processes of this program that work in our directory (which both servers enter as they start)."""
        name = Path(self._binary()).name[:15]
        return [
            int(entry.name)
            for entry in (Path("/proc").iterdir() if Path("/proc/self/comm").exists() else ())
            if entry.name.isdigit() and _is_at_work(entry, name, self.directory)
        ]


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_at_work(process: Path, name: str, directory: Path) -> bool:
    try:
        return (process / "comm").read_text().strip() == name and (process / "cwd").readlink() == directory
    except OSError:
        return False
