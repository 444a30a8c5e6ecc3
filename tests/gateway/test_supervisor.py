"""The supervisor: children that end are started again, and none is left at the end."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.supervisor import Supervisor
from tests.processes import runs
from tests.waiting import eventually

STEADY = "import signal; signal.pause()"
CRASHING = "raise SystemExit(7)"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""
PARENT = """
import signal, subprocess
print(subprocess.Popen(["sleep", "300"]).pid, flush=True)
signal.pause()
"""

Start = Callable[..., contextlib.AbstractAsyncContextManager[Supervisor]]


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output.txt"


@pytest.fixture
def supervising(tmp_path: Path, output: Path, reports: list[str]) -> Start:
    @contextlib.asynccontextmanager
    async def start(drain_s: float = 5.0, **programs: str) -> AsyncIterator[Supervisor]:
        for name, code in programs.items():
            (tmp_path / f"{name}.py").write_text(code)
        with output.open("ab") as file:
            supervisor = Supervisor(
                {"PYTHONPATH": str(tmp_path)},
                programs=[(name,) for name in programs],
                output=file.fileno(),
                drain_s=drain_s,
                report=reports.append,
            )
            await supervisor.start()
            try:
                yield supervisor
            finally:
                await supervisor.stop()

    return start


async def test_a_child_that_is_killed_is_started_again(supervising: Start, reports: list[str]) -> None:
    async with supervising(steady=STEADY) as supervisor:
        child = supervisor.children[0]
        first = child.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: child.pid not in (None, first))
    assert reports == ["steady ended (signal SIGKILL) and is started again in 0.1 s"]


async def test_pauses_between_restarts_grow(supervising: Start, reports: list[str]) -> None:
    async with supervising(crashing=CRASHING) as supervisor:
        await eventually(lambda: supervisor.children[0].exits == 3)
    assert [report.rpartition(" in ")[2] for report in reports] == ["0.1 s", "0.2 s", "0.4 s"]
    assert reports[0].startswith("crashing ended (exit code 7)")


async def test_children_end_with_the_supervisor(supervising: Start) -> None:
    async with supervising(one=STEADY, two=STEADY) as supervisor:
        pids = [child.pid or 0 for child in supervisor.children]
        assert all(map(runs, pids))
    assert not any(map(runs, pids))


async def test_a_child_that_ignores_the_request_is_killed(
    supervising: Start, output: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supervisor.GRACE_S", 0.0)
    async with supervising(drain_s=0.3, stubborn=STUBBORN) as supervisor:
        await eventually(output.read_text)
        pid = supervisor.children[0].pid
        assert pid
    assert not runs(pid)
    assert reports == ["stubborn did not stop within 0 s and is killed"]


async def test_what_a_child_started_does_not_outlive_it(supervising: Start, output: Path) -> None:
    async with supervising(parent=PARENT) as supervisor:
        grandchild = int(await eventually(output.read_text))
        assert runs(grandchild)
        assert supervisor.children[0].pid
    await eventually(lambda: not runs(grandchild))


async def test_children_are_out_of_reach_of_the_terminal(supervising: Start) -> None:
    async with supervising(steady=STEADY) as supervisor:
        pid = supervisor.children[0].pid
        assert pid is not None
        assert os.getsid(pid) != os.getsid(0)
