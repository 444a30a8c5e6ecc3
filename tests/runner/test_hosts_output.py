"""What users' code says: every line arrives, in order, from whatever part of the process it comes."""

import asyncio
import time
from typing import Any

import pytest

from runner.hosts import Hosts
from runner.wire import LogFrame, Reason, Succeeded
from schemas.states import LogLevel
from tests.runner.block_hosts import call, failed, running
from tests.waiting import eventually


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
    longest = 0.0
    while not flood.done():
        before = time.thread_time()  # of this thread alone: others may use the machine meanwhile
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - before)
    assert isinstance(await flood, Succeeded)
    assert [frame.message for frame in lines] == [f"line {number}" for number in range(100_000)]
    assert longest < 3


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
