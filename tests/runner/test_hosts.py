"""Users' code in real child processes: what it returns, and everything that it can do to them."""

import asyncio
import datetime as dt
import re
import uuid

import msgspec
import pytest

from runner.context import EventBody
from runner.hosts import Hosts
from runner.wire import LogFrame, Reason, Succeeded
from schemas.outputs import Output
from schemas.payload import Kind
from tests.processes import runs
from tests.runner.block_hosts import call, failed, nowhere, returned, running
from tests.waiting import eventually


async def test_outputs_flow_by_parameter_name(execute) -> None:
    loaded = await execute("orders", "load", variables=b'{"limit": 3}')
    assert loaded.row_count == 3
    transformed = await execute("orders", "transform", inputs={"load": loaded.output, "unused": Output(data=b"\xc1")})
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
