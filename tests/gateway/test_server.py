import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server import address, bind
from schemas.errors import SettingsError
from tests.gateway.raw_http import connected, send
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
EXIT_S = 2.0


async def start(flaw: str = "none", **settings: str) -> Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environ |= {"PENSTOCK_PORT": "0"} | {f"PENSTOCK_{name.upper()}": value for name, value in settings.items()}
    command = (sys.executable, "-m", "tests.gateway.tiny_gateway", flaw)
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=PIPE, stderr=PIPE)


@contextlib.asynccontextmanager
async def running(flaw: str = "none", **settings: str) -> AsyncIterator[tuple[Process, int]]:
    """Run the tiny gateway until the block ends; gives its process and port."""
    process = await start(flaw, **settings)
    assert process.stdout is not None
    try:
        while not (line := await asyncio.wait_for(process.stdout.readline(), 20)).startswith(b"ready "):
            assert line, "the process ended before it was ready"
        yield process, int(line.rpartition(b":")[2])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def open_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes) -> None:
    await send(writer, [b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path])
    await asyncio.wait_for(reader.readuntil(b"data: hello\n\n"), 20)


async def ended(process: Process, *, within: float) -> tuple[int | None, str, str]:
    """Wait for the end; gives exit code, stdout, stderr."""
    out, err = await asyncio.wait_for(process.communicate(), within)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_and_the_process(sign: signal.Signals) -> None:
    async with running() as (process, port), connected(port) as (reader, writer), connected(port):
        await open_stream(reader, writer, b"/stream")
        process.send_signal(sign)
        assert b"event: end" in await asyncio.wait_for(reader.read(), EXIT_S)
        code, out, err = await ended(process, within=EXIT_S)
    assert (code, err) == (0, "")
    assert out.endswith("stopped\n")


async def test_while_draining_no_connection_is_taken_and_a_second_signal_waits_for_nobody() -> None:
    async with running(drain_s="60") as (process, port), connected(port) as (reader, writer):
        await open_stream(reader, writer, b"/stuck")
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: refuses(port))
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        code, out, err = await ended(process, within=EXIT_S)
    assert (code, err) == (0, "")
    assert "Traceback" not in out


async def refuses(port: int) -> bool:
    try:
        async with connected(port):
            return False
    except ConnectionRefusedError:
        return True


async def test_draining_has_an_end() -> None:
    async with running(drain_s="0.5") as (process, port), connected(port) as (reader, writer):
        await open_stream(reader, writer, b"/stuck")
        process.send_signal(signal.SIGTERM)
        code, out, err = await ended(process, within=1 + EXIT_S)
    assert (code, err) == (0, "")
    assert "Traceback" not in out


async def test_the_log_says_where_it_listens() -> None:
    process = await start()
    assert process.stdout is not None
    event = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    ready = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    process.send_signal(signal.SIGTERM)
    await ended(process, within=EXIT_S)
    assert (event["event"], f"ready {event['url']}\n") == ("listening", ready)


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = await ended(await start(port=str(port)), within=20)
    assert (code, out) == (1, "")
    assert err == f"penstock gateway: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("flaw", "line"),
    [
        ("settings", "PENSTOCK_REDIS_URL is missing next to port 0"),
        ("unsafe", "fsync is off on postgresql://penstock:***@db/penstock"),
    ],
)
async def test_a_start_that_is_refused_is_one_clear_line(flaw: str, line: str) -> None:
    code, out, err = await ended(await start(flaw), within=20)
    assert (code, out, err) == (1, "", f"penstock gateway: {line}\n")


async def test_a_start_that_fails_unexpectedly_leaves_its_traceback_in_the_log() -> None:
    code, out, err = await ended(await start("bug"), within=20)
    assert code == 1
    assert err.startswith("penstock gateway: the start failed, see the log: ZeroDivisionError: canary=psk_***")
    assert len(err.splitlines()) == 1
    event = json.loads(out)
    assert "ZeroDivisionError" in event["exception"]
    assert "psk_canary" not in out


async def test_a_stop_that_fails_is_in_the_log() -> None:
    async with running("stop") as (process, _):
        process.send_signal(signal.SIGTERM)
        _, out, err = await ended(process, within=EXIT_S)
    first = json.loads(out.splitlines()[0])
    assert (first["event"], err) == ("the stop failed", "")
    assert "ZeroDivisionError" in first["exception"]


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        bind("192.0.2.1", 0)
    with pytest.raises(SettingsError, match="cannot listen on no such host port 80"):
        bind("no such host", 80)


def test_a_socket_does_not_listen_before_the_application_is_ready() -> None:
    (listener,) = bind("127.0.0.1", 0)
    with listener, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(listener.getsockname())


def test_an_address_is_a_url() -> None:
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        assert address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
