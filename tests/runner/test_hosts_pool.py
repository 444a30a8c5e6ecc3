"""Block hosts as a pool: how they are shared, replaced, retired, and how they end with their runner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runner.wire import LogFrame, Reason, Succeeded
from tests.child_processes import children
from tests.processes import runs
from tests.runner.block_hosts import PIPELINES, call, failed, nowhere, returned, running
from tests.waiting import eventually


async def test_independent_blocks_run_at_the_same_time_up_to_the_limit() -> None:
    before = set(children(os.getpid()))
    async with running(warm=1, limit=3, idle=0.2) as hosts:
        pause = call("returns", "sleeps_shortly", variables=b'{"seconds": 0.3}')
        runs_of = [hosts.run(pause, timeout=9, on_log=nowhere) for _ in range(6)]
        outcomes = await asyncio.gather(*runs_of)
        assert len({returned(outcome) for outcome in outcomes}) == 3
        await eventually(lambda: hosts.size == 1)
        await eventually(lambda: len(children(os.getpid()).keys() - before) <= 1)


async def test_waiting_blocks_are_served_in_order() -> None:
    async with running() as hosts:
        order: list[int] = []

        async def one(number: int) -> None:
            pause = call("returns", "sleeps_shortly", variables=b'{"seconds": 0.01}')
            await hosts.run(pause, timeout=9, on_log=nowhere)
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(10)))
        assert order == list(range(10))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
async def test_an_idle_host_that_is_killed_is_replaced_and_leaves_no_zombie(by: signal.Signals) -> None:
    async with running(warm=2, limit=2) as hosts:
        victim = returned(await hosts.run(call("returns", "pid"), timeout=9, on_log=nowhere))
        before = children(os.getpid())
        os.kill(victim, by)
        await eventually(lambda: children(os.getpid()).keys() - before.keys())
        assert victim not in children(os.getpid())
        outcomes = [await hosts.run(call("returns", "pid"), timeout=9, on_log=nowhere) for _ in range(3)]
        assert victim not in {returned(outcome) for outcome in outcomes}


HELPER = "ANSWER = {answer}\n"
USES_HELPER = """
    import threading
    from runner import pipeline
    from _helper import ANSWER

    edited = pipeline("edited")

    @edited.block
    def answer():
        return ANSWER

    @edited.block
    def slow_answer(run):
        run.log.info("started")
        threading.Event().wait(0.5)
        return ANSWER
"""


async def test_retired_hosts_load_edited_files_anew_and_busy_ones_finish_first(tmp_path: Path) -> None:
    (tmp_path / "_helper.py").write_text(HELPER.format(answer=1))
    (tmp_path / "edited.py").write_text(textwrap.dedent(USES_HELPER))
    async with running(tmp_path, warm=2, limit=2) as hosts:

        def run(block: str, on_log: Callable[[LogFrame], None] = nowhere) -> Any:
            return hosts.run(call("edited", block, directory=tmp_path), timeout=9, on_log=on_log)

        lines: list[LogFrame] = []
        busy = asyncio.ensure_future(run("slow_answer", lines.append))
        await eventually(lambda: lines)
        (tmp_path / "_helper.py").write_text(HELPER.format(answer=22))
        hosts.retire()
        assert returned(await run("answer")) == 22
        assert returned(await busy) == 1
        assert {returned(outcome) for outcome in await asyncio.gather(*(run("answer") for _ in range(4)))} == {22}


async def test_an_edited_file_is_loaded_again_and_a_block_that_is_gone_is_not_executed(tmp_path: Path) -> None:
    source = "from runner import pipeline\np = pipeline('edited')\n@p.block\ndef {block}(): return {answer}\n"
    file = tmp_path / "edited.py"
    async with running(tmp_path) as hosts:
        file.write_text(source.format(block="old", answer=1))
        planned = call("edited", "old", directory=tmp_path)
        assert returned(await hosts.run(planned, timeout=9, on_log=nowhere)) == 1
        file.write_text(source.format(block="old", answer=2))
        edited = call("edited", "old", directory=tmp_path)
        assert returned(await hosts.run(edited, timeout=9, on_log=nowhere)) == 2
        file.write_text(source.format(block="new", answer=3))
        failure = failed(await hosts.run(planned, timeout=9, on_log=nowhere), Reason.BLOCK_MISSING)
        assert failure.error.message == (
            "edited.py no longer defines block 'old' of pipeline 'edited': it was edited after this run was planned"
        )


async def test_a_block_that_takes_more_than_was_planned_is_not_executed(execute) -> None:
    failure = failed(await execute("orders", "transform"), Reason.INPUT_MISSING)
    assert "takes the output of 'load'" in failure.error.message


async def test_a_file_that_stops_loading_fails_the_block_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "edited.py").write_text("import missing_module\n")
    async with running(tmp_path) as hosts:
        outcome = await hosts.run(call("edited", "b", directory=tmp_path), timeout=9, on_log=nowhere)
    failure = failed(outcome, Reason.RAISED)
    assert failure.error.type == "ModuleNotFoundError"
    assert 'File "edited.py", line 1' in failure.error.traceback


async def test_when_no_host_can_start_blocks_fail_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    async with running() as hosts:
        outcome = await hosts.run(call("orders", "noop"), timeout=9, on_log=nowhere)
        message = failed(outcome, Reason.HOST_DIED).error.message
        assert message.startswith("no block host could be started: its process exited with code 1\n")


async def test_stopping_cancels_what_runs_and_what_waits_and_leaves_no_process() -> None:
    before = set(children(os.getpid()))
    lines: list[LogFrame] = []
    async with running(warm=2, limit=2) as hosts:
        blocks = ("sleeps", "swallows_everything", "sleeps", "sleeps")
        calls = [
            asyncio.ensure_future(hosts.run(call("misbehaves", block), timeout=None, on_log=lines.append))
            for block in blocks
        ]
        await eventually(lambda: len(lines) == 2)
        await hosts.stop()
        for outcome in await asyncio.gather(*calls):
            failed(outcome, Reason.CANCELLED)
        failed(await hosts.run(call("orders", "noop"), timeout=1, on_log=nowhere), Reason.CANCELLED)
    assert set(children(os.getpid())) <= before


RUNNER = """
    import asyncio, sys, uuid
    from pathlib import Path
    from runner.hosts import Hosts
    from runner.wire import Call

    def call(block):
        return Call(path="misbehaves.py", version="", pipeline_id="misbehaves", block_id=block, run_id=uuid.uuid4())

    async def main():
        hosts = Hosts(Path(sys.argv[1]), warm=3, limit=3)
        await hosts.start()
        for block in ("spins", "swallows_everything"):
            asyncio.ensure_future(hosts.run(call(block), timeout=None, on_log=print))
        print("started", flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


async def test_hosts_die_with_a_runner_that_is_killed() -> None:
    command = (sys.executable, "-P", "-c", textwrap.dedent(RUNNER), str(PIPELINES))
    runner = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert await runner.stdout.readline() == b"started\n"
    hosts = children(runner.pid)
    assert len(hosts) == 3
    runner.kill()
    await runner.communicate()
    await eventually(lambda: not any(runs(pid) for pid in hosts))


async def test_where_the_kernel_does_not_help_a_thread_ends_the_host_and_what_it_started() -> None:
    ours, theirs = socket.socketpair()
    script = "import sys, subprocess; from runner.host import _watch; subprocess.Popen(['sleep', '60']); _watch({})"
    command = (sys.executable, "-P", "-c", script.format(theirs.fileno()))
    host = await asyncio.create_subprocess_exec(*command, pass_fds=(theirs.fileno(),), start_new_session=True)
    theirs.close()
    (sleeper,) = await eventually(lambda: children(host.pid))
    assert host.returncode is None
    ours.close()
    assert await asyncio.wait_for(host.wait(), 5) == -signal.SIGKILL
    await eventually(lambda: not runs(sleeper))


def test_the_pool_works_under_uvloop() -> None:
    async def main() -> None:
        lines: list[LogFrame] = []
        async with running(warm=2, limit=2) as hosts:
            outcome = await hosts.run(call("orders", "load"), timeout=9, on_log=lines.append)
            assert returned(outcome) == [{"id": 0}, {"id": 1}]
            failed(await hosts.run(call("misbehaves", "segfaults"), timeout=9, on_log=lines.append), Reason.HOST_DIED)
            failed(await hosts.run(call("misbehaves", "spins"), timeout=0.2, on_log=nowhere), Reason.TIMEOUT)
            flood: list[LogFrame] = []
            assert isinstance(await hosts.run(call("prints", "a_flood"), timeout=60, on_log=flood.append), Succeeded)
            assert len(flood) == 100_000
            await hosts.run(call("prints", "past_python"), timeout=9, on_log=lines.append)
            assert "from a subprocess" in [frame.message for frame in lines]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert "Z" not in children(os.getpid()).values()
