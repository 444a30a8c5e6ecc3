"""Users' code in real child processes: what it returns, what it says, and everything that it can do to them."""

import asyncio
import contextlib
import datetime as dt
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from runner.context import EventBody
from runner.hosts import Hosts
from runner.wire import Call, Failed, LogFrame, Outcome, Reason, Succeeded
from schemas.payload import Kind
from schemas.states import LogLevel
from tests.child_processes import children
from tests.processes import runs
from tests.waiting import eventually

PIPELINES = Path(__file__).parent.parent / "pipelines"


def call(pipeline: str, block: str, *, directory: Path = PIPELINES, **fields: Any) -> Call:
    """Make a call of a block in the file named like its pipeline."""
    path = "ok.py" if pipeline == "orders" else f"{pipeline}.py"
    version = hashlib.sha256((directory / path).read_bytes()).hexdigest()
    return Call(path=path, version=version, pipeline_id=pipeline, block_id=block, run_id=uuid.uuid4(), **fields)


def returned(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    return msgspec.msgpack.decode(outcome.output)


def failed(outcome: Outcome, reason: Reason) -> Failed:
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is reason, outcome
    return outcome


def nowhere(_frame: LogFrame) -> None:
    """Drop a line."""


@contextlib.asynccontextmanager
async def running(directory: Path = PIPELINES, **options: Any) -> AsyncIterator[Hosts]:
    hosts = Hosts(directory, **{"warm": 1, "limit": 1, "grace": 0.3, **options})
    await hosts.start()
    try:
        yield hosts
    finally:
        await hosts.stop()


@pytest.fixture(scope="module")
async def hosts() -> AsyncIterator[Hosts]:
    async with running() as hosts:
        yield hosts


@pytest.fixture
def execute(hosts: Hosts):
    async def execute(pipeline: str, block: str, *, within: float = 20, **fields: Any) -> Outcome:
        return await hosts.run(call(pipeline, block, **fields), timeout=within, on_log=nowhere)

    return execute


@pytest.fixture
def listen(hosts: Hosts):
    async def listen(pipeline: str, block: str, **fields: Any) -> list[LogFrame]:
        lines: list[LogFrame] = []
        await hosts.run(call(pipeline, block, **fields), timeout=60, on_log=lines.append)
        return lines

    return listen


async def test_outputs_flow_by_parameter_name(execute) -> None:
    loaded = await execute("orders", "load", variables=b'{"limit": 3}')
    assert loaded.row_count == 3
    transformed = await execute("orders", "transform", inputs={"load": loaded.output, "unused": b"\xc1"})
    assert returned(transformed) == [{"id": number, "ok": True} for number in range(3)]


async def test_the_run_tells_everything_about_itself(hosts: Hosts) -> None:
    event = EventBody(kind=Kind.JSON, body=b'{"ref": "main"}')
    about = call("orders", "about", number=7, attempt=2, variables=b'{"region": "eu"}', event=event)
    assert returned(await hosts.run(about, timeout=20, on_log=nowhere)) == {
        "id": str(about.run_id),
        "number": 7,
        "pipeline": "orders",
        "block": "about",
        "attempt": 2,
        "key": f"{about.run_id}:about",
        "variables": {"region": "eu"},
        "event": {"ref": "main"},
        "logical_date": None,
    }


async def test_whatever_msgspec_encodes_may_be_returned(execute) -> None:
    assert returned(await execute("returns", "every_type")) == {
        "struct": {"id": 1},
        "dataclass": {"x": 1},
        "decimal": "1.50",
        "set": [1],
        "bytes": b"\0\xff",
        "uuid": str(uuid.UUID(int=1)),
        "time": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "tuple": [1, "é"],
        "none": None,
    }


async def test_async_blocks_share_one_event_loop_for_the_life_of_a_host(execute) -> None:
    assert returned(await execute("returns", "same_loop")) == returned(await execute("returns", "same_loop"))


async def test_a_block_runs_in_the_main_thread(execute) -> None:
    assert returned(await execute("returns", "in_main_thread")) is True


async def test_a_host_does_not_see_the_secrets_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "ADMIN_KEY", "SECRET_KEYS", "API_KEY"):
        monkeypatch.setenv(f"PENSTOCK_{name}", "psk_secret")
    async with running() as hosts:
        outcome = await hosts.run(call("returns", "environment"), timeout=20, on_log=nowhere)
    assert returned(outcome) == ["PENSTOCK_API_KEY"]


@pytest.mark.parametrize(
    ("block", "reason", "message"),
    [
        (
            "returns_an_object",
            Reason.OUTPUT_INVALID,
            "block 'returns_an_object' returned PosixPath at $.rows[1].where, which cannot be stored: "
            "return JSON-like data, a msgspec Struct or bytes",
        ),
        (
            "returns_a_cycle",
            Reason.OUTPUT_INVALID,
            "block 'returns_a_cycle' returned data that is nested too deeply or contains itself",
        ),
        (
            "returns_a_huge_number",
            Reason.OUTPUT_INVALID,
            "block 'returns_a_huge_number' returned int at $.a, which cannot be stored: "
            "can't serialize ints < -2**63 or > 2**64 - 1",
        ),
        (
            "returns_too_much",
            Reason.OUTPUT_TOO_LARGE,
            "block 'returns_too_much' returned 17,825,797 bytes, the limit is 16,777,216: "
            "store them elsewhere and return a reference (a path, a key, a URL)",
        ),
    ],
)
async def test_what_cannot_be_stored_is_refused_clearly(execute, block: str, reason: Reason, message: str) -> None:
    failure = failed(await execute("misbehaves", block), reason)
    assert failure.error.message == message
    assert failure.error.type == reason
    assert not failure.is_worth_retrying


async def test_an_output_up_to_the_limit_passes(execute) -> None:
    assert len(returned(await execute("misbehaves", "returns_almost_too_much"))) == (16 << 20) - 100


async def test_wrong_variables_name_the_field(execute) -> None:
    failure = failed(await execute("orders", "transform", variables=b'{"limit": "3"}'), Reason.PARAMS_INVALID)
    assert failure.error.message == (
        "the variables do not fit the params of pipeline 'orders': Expected `int`, got `str` - at `$.limit`"
    )


async def test_an_exception_is_told_with_the_users_frames_only(execute) -> None:
    failure = failed(await execute("misbehaves", "raises"), Reason.RAISED)
    assert failure.error.type == "ValueError"
    assert failure.error.message == "no region \ufffd \ufffd"
    assert failure.error.block_id == "raises"
    frames = re.findall(r'File "(.+)", line \d+, in (\w+)', failure.error.traceback)
    assert frames == [("misbehaves.py", "raises"), ("misbehaves.py", "inner")]
    assert failure.is_worth_retrying


@pytest.mark.parametrize(
    ("block", "type_", "message"),
    [
        ("raises_without_text", "BadText", "<its text cannot be shown: RuntimeError>"),
        ("calls_sys_exit", "SystemExit", "3"),
        ("calls_sys_exit_async", "SystemExit", "3"),
        ("interrupts_keyboard", "KeyboardInterrupt", ""),
        ("closes_generator", "GeneratorExit", ""),
    ],
)
async def test_no_exception_ends_a_host(execute, block: str, type_: str, message: str) -> None:
    before = returned(await execute("returns", "pid"))
    failure = failed(await execute("misbehaves", block), Reason.RAISED)
    assert (failure.error.type, failure.error.message) == (type_, message)
    assert returned(await execute("returns", "pid")) == before


async def test_endless_recursion_is_an_exception_with_a_bounded_traceback(execute) -> None:
    failure = failed(await execute("misbehaves", "recurses"), Reason.RAISED)
    assert failure.error.type == "RecursionError"
    assert len(failure.error.traceback) < 20_000


async def test_an_exception_named_like_one_of_our_reasons_is_still_the_users(execute) -> None:
    assert failed(await execute("misbehaves", "raises_own_timeout"), Reason.RAISED).error.type == "Timeout"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("calls_os_exit", "block 'calls_os_exit': its process exited with code 7"),
        ("segfaults", "block 'segfaults': its process was killed by SIGSEGV"),
        ("kills_itself", "block 'kills_itself': its process was killed by SIGKILL, often for lack of memory"),
        ("forks_a_holder", "block 'forks_a_holder': its process exited with code 9"),
        ("closes_its_connection", "block 'closes_its_connection': its process was killed by SIGKILL"),
    ],
)
async def test_the_death_of_a_host_is_an_outcome_and_the_next_block_gets_a_new_one(
    execute, block: str, message: str
) -> None:
    before = returned(await execute("returns", "pid"))
    failure = failed(await execute("misbehaves", block), Reason.HOST_DIED)
    assert failure.error.message.startswith(message)
    assert failure.is_worth_retrying
    assert failure.duration_ms < 5000
    after = returned(await execute("returns", "pid"))
    assert after != before
    assert not runs(before)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"\0\0\0\0",
        b"\0\0\0\x04text",
        b"\0\0\0\x12\x93\xa8LogFrame\xa4info\xa2\xff\xfe",
        b"\0\0\x10\0" + b"\x91" * 0x1000,
    ],
)
async def test_garbage_on_the_connection_ends_the_host_and_nothing_else(execute, garbage: bytes) -> None:
    variables = msgspec.json.encode({"hex": garbage.hex()})
    failed(await execute("misbehaves", "writes_into_its_connection", variables=variables), Reason.HOST_DIED)
    assert isinstance(await execute("orders", "noop"), Succeeded)


async def test_a_segfault_leaves_its_trace_in_the_log(listen) -> None:
    lines = [frame.message for frame in await listen("misbehaves", "segfaults")]
    assert "Fatal Python error: Segmentation fault" in lines
    assert any("in segfaults" in line for line in lines)


async def test_the_last_words_of_a_dying_host_are_kept(listen) -> None:
    assert [frame.message for frame in await listen("misbehaves", "calls_os_exit")] == ["without newline"]


async def test_a_memory_limit_makes_greed_an_exception(hosts: Hosts) -> None:
    async with running(memory_mb=1024) as limited:
        outcome = await limited.run(call("misbehaves", "eats_memory"), timeout=20, on_log=nowhere)
        assert failed(outcome, Reason.RAISED).error.type == "MemoryError"


@pytest.mark.parametrize(
    "block", ["spins", "spins_async", "swallows_cancel", "swallows_everything", "returns_after_cancel", "sleeps_async"]
)
async def test_a_timeout_is_enforced_whatever_the_block_does(execute, block: str) -> None:
    failure = failed(await execute("misbehaves", block, within=0.4), Reason.TIMEOUT)
    assert failure.error.type == "Timeout"
    assert failure.error.message == f"block {block!r} did not finish within 0.4 s"
    assert 400 <= failure.duration_ms < 3000
    assert isinstance(await execute("orders", "noop"), Succeeded)


async def test_a_block_out_of_time_shows_where_it_was(execute) -> None:
    failure = failed(await execute("misbehaves", "sleeps", within=0.3), Reason.TIMEOUT)
    assert "time.sleep(60)" in failure.error.traceback
    assert "host.py" not in failure.error.traceback


@pytest.mark.parametrize("block", ["sleeps", "sleeps_async"])
async def test_a_cancelled_block_may_clean_up(hosts: Hosts, block: str) -> None:
    cancelled, lines = asyncio.Event(), []
    running = asyncio.ensure_future(
        hosts.run(call("misbehaves", block), timeout=30, on_log=lines.append, cancelled=cancelled)
    )
    await eventually(lambda: lines)
    cancelled.set()
    failure = failed(await running, Reason.CANCELLED)
    assert failure.error.message == f"block {block!r} was cancelled while it was running"
    assert [frame.message for frame in lines] == ["asleep", "cleaned up"]


@pytest.mark.parametrize("block", ["swallows_cancel", "swallows_everything", "returns_after_cancel"])
async def test_a_cancel_cannot_be_refused(hosts: Hosts, block: str) -> None:
    cancelled, lines = asyncio.Event(), []
    running = asyncio.ensure_future(
        hosts.run(call("misbehaves", block), timeout=None, on_log=lines.append, cancelled=cancelled)
    )
    await eventually(lambda: lines)
    cancelled.set()
    failed(await running, Reason.CANCELLED)


async def test_what_a_block_started_is_killed_with_it(hosts: Hosts) -> None:
    lines: list[LogFrame] = []
    outcome = await hosts.run(call("misbehaves", "starts_a_process"), timeout=1, on_log=lines.append)
    failed(outcome, Reason.TIMEOUT)
    await eventually(lambda: not runs(lines[0].fields["pid"]))


async def test_what_is_cancelled_before_it_has_a_host_never_starts(hosts: Hosts) -> None:
    cancelled, first_lines, lines = asyncio.Event(), [], []
    first = asyncio.ensure_future(hosts.run(call("misbehaves", "sleeps"), timeout=1, on_log=first_lines.append))
    second = asyncio.ensure_future(
        hosts.run(call("prints", "in_order"), timeout=1, on_log=lines.append, cancelled=cancelled)
    )
    await eventually(lambda: first_lines)
    cancelled.set()
    assert failed(await second, Reason.CANCELLED).error.block_id == "in_order"
    third = await hosts.run(call("prints", "in_order"), timeout=1, on_log=lines.append, cancelled=cancelled)
    failed(third, Reason.CANCELLED)
    assert lines == []
    failed(await first, Reason.TIMEOUT)


async def test_a_caller_that_goes_away_takes_the_host_with_it(hosts: Hosts, execute) -> None:
    pid = returned(await execute("returns", "pid"))
    lines: list[LogFrame] = []
    running = asyncio.ensure_future(hosts.run(call("misbehaves", "sleeps"), timeout=None, on_log=lines.append))
    await eventually(lambda: lines)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually(lambda: not runs(pid))
    assert returned(await execute("returns", "pid")) != pid


async def test_callers_that_give_up_waiting_do_not_lose_a_host(hosts: Hosts, execute) -> None:
    short = call("returns", "sleeps_shortly", variables=b'{"seconds": 0.2}')
    first = asyncio.ensure_future(hosts.run(short, timeout=9, on_log=nowhere))
    others = [asyncio.ensure_future(hosts.run(short, timeout=9, on_log=nowhere)) for _ in range(5)]
    await asyncio.sleep(0)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(await first, Succeeded)
    assert isinstance(await asyncio.wait_for(execute("orders", "noop"), 5), Succeeded)


def say(frames: list[LogFrame]) -> list[tuple[LogLevel, str]]:
    return [(frame.level, frame.message) for frame in frames]


async def test_everything_that_python_says_is_in_order(listen) -> None:
    frames = await listen("prints", "in_order")
    assert say(frames) == [
        (LogLevel.INFO, "one"),
        (LogLevel.DEBUG, "two"),
        (LogLevel.WARNING, "three"),
        (LogLevel.WARNING, "four !"),
        (LogLevel.INFO, "five"),
        (LogLevel.ERROR, "seven"),
        (LogLevel.INFO, "six"),
    ]
    assert frames[1].fields == {"n": 2}
    assert frames[3].fields == {"logger": "library"}


async def test_output_that_passes_by_python_is_captured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    lines: list[LogFrame] = []
    async with running() as hosts:
        await hosts.run(call("prints", "past_python"), timeout=20, on_log=lines.append)
    assert sorted(say(lines)) == sorted(
        [
            (LogLevel.INFO, "raw \ufffd\ufffd bytes"),
            (LogLevel.INFO, "from a subprocess"),
            (LogLevel.WARNING, "its error"),
            (LogLevel.INFO, "from C"),
        ]
    )


async def test_output_belongs_to_the_block_that_wrote_it(listen) -> None:
    for attempt in range(100):
        lines = await listen("prints", "at_the_last_moment", attempt=attempt)
        assert [frame.message.rstrip("x") for frame in lines] == [f"attempt {attempt} "] * 8


async def test_a_signal_handler_may_print_while_the_block_prints(listen) -> None:
    lines = [frame.message for frame in await listen("prints", "from_a_signal_handler")]
    assert "tick" in lines
    assert [line.rstrip("x") for line in lines if line != "tick"] == [f"line {number} " for number in range(3000)]


async def test_a_fork_of_a_host_may_print_and_log(listen, execute) -> None:
    lines = [frame.message.strip() for frame in await listen("prints", "from_a_fork")]
    assert "printed in a fork" in lines
    assert "logged in a fork" in lines
    assert isinstance(await execute("orders", "noop"), Succeeded)


@pytest.mark.parametrize("block", ["a_flood", "a_raw_flood"])
async def test_a_flood_arrives_whole_and_in_order_while_the_loop_stays_free(hosts: Hosts, block: str) -> None:
    lines: list[LogFrame] = []
    flood = asyncio.ensure_future(hosts.run(call("prints", block), timeout=90, on_log=lines.append))
    loop, longest = asyncio.get_running_loop(), 0.0
    while not flood.done():
        before = loop.time()
        await asyncio.sleep(0)
        longest = max(longest, loop.time() - before)
    assert isinstance(await flood, Succeeded)
    assert [frame.message for frame in lines] == [f"line {number}" for number in range(100_000)]
    assert longest < 1


async def test_threads_may_print_at_the_same_time(listen) -> None:
    lines = [frame.message for frame in await listen("prints", "from_threads")]
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(2000)]


async def test_a_host_waits_while_its_lines_are_not_taken(hosts: Hosts) -> None:
    taken, room = [], asyncio.get_running_loop().create_future()

    def take(frame: LogFrame) -> asyncio.Future[Any] | None:
        taken.append(frame)
        return None if room.done() else room

    flood = asyncio.ensure_future(hosts.run(call("prints", "a_flood"), timeout=60, on_log=take))
    await eventually(lambda: taken)
    assert not (await asyncio.wait({flood}, timeout=0.3))[0]
    assert len(taken) == 1
    room.set_result(None)
    assert isinstance(await flood, Succeeded)
    assert len(taken) == 100_000


async def test_a_block_that_waits_for_its_lines_to_be_taken_can_be_stopped(hosts: Hosts) -> None:
    never = asyncio.get_running_loop().create_future()
    outcome = await hosts.run(call("misbehaves", "prints_for_ever"), timeout=0.3, on_log=lambda _: never)
    failed(outcome, Reason.TIMEOUT)


async def test_hostile_text_becomes_storable(listen) -> None:
    frames = await listen("prints", "hostile_text")
    assert frames[0].message == "nul \ufffd, surrogate \ufffd, escape \x1b[31m"
    assert frames[1].message == "x" * (16 << 10) + "… truncated"
    assert frames[2].fields == {
        "nul": "\ufffd",
        "surrogate": "\ufffd",
        "bytes": "/w==",
        "object": "<Unprintable, its repr raises RuntimeError>",
        "pairs": {"1": [2]},
    }
    assert frames[3].fields == {"cycle": "{'self': {...}}"}
    assert set(frames[4].fields) == {"fields"}
    assert len(frames[4].fields["fields"]) < 17_000
    assert frames[5].message == "<Unprintable, its repr raises RuntimeError>"


async def test_a_logged_exception_has_its_traceback(listen) -> None:
    (frame,) = await listen("prints", "an_exception")
    assert (frame.level, frame.message, frame.fields["row"]) == (LogLevel.ERROR, "it failed", 3)
    assert "ValueError: handled" in frame.fields["traceback"]


async def test_independent_blocks_run_at_the_same_time_up_to_the_limit() -> None:
    async with running(warm=1, limit=3, idle=0.2) as hosts:
        pause = call("returns", "sleeps_shortly", variables=b'{"seconds": 0.3}')
        runs_of = [hosts.run(pause, timeout=9, on_log=nowhere) for _ in range(6)]
        outcomes = await asyncio.gather(*runs_of)
        assert len({returned(outcome) for outcome in outcomes}) == 3
        await eventually(lambda: hosts.size == 1)
        await eventually(lambda: len(children(os.getpid())) <= 2)


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
