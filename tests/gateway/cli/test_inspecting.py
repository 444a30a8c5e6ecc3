"""`penstock events` against a real gateway: bodies, replays, and following what comes."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.embedded import EmbeddedServers
from tests.conftest import FLOWS
from tests.gateway.cli.real_gateway import Command, command_of
from tests.system import KEY, Penstock
from tests.waiting import eventually

WITHIN_S = 20


@pytest.fixture
def run(shared: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return command_of(shared, tmp_path)


async def event_of(shared: Penstock, hook: str, body: bytes = b"{}", **headers: str) -> str:
    answer = await shared.deliver(hook, body, **headers)
    return str(answer.json()["event_id"])


def schedule_of(hook: str) -> str:
    """Return the id of the schedule that a hook belongs to."""
    return hook.rpartition("/hooks/")[2].partition("/")[0]


async def test_a_body_is_saved_byte_for_byte(shared: Penstock, run: Command, tmp_path: Path) -> None:
    body = bytes(range(256))
    event = await event_of(shared, await shared.hook(), body, content_type="application/octet-stream")

    saved, printed = run("events", "show", event, "--body", "-f", "body"), run("events", "show", event, "--body")

    assert (saved.exit_code, saved.stdout, saved.stderr) == (0, "", "256 bytes in body\n")
    assert (tmp_path / "body").read_bytes() == printed.stdout_bytes == body


async def test_a_refusal_is_found_and_shown_with_its_reason(shared: Penstock, run: Command) -> None:
    hook = await shared.hook(source="github", source_config={"secrets": ["x"]})
    run("send", hook, "--source", "github", "--secret", "y")

    listed: str = await eventually(lambda: run("events", "ls", "--schedule", schedule_of(hook)).stdout)
    row = listed.rstrip("\n").split("\t")
    shown = run("events", "show", row[-1]).stdout.splitlines()

    assert row[1:5] == ["github", "", "rejected", "bad_signature"]
    assert "reason\tThe signature in X-Hub-Signature-256 does not match the delivered bytes." in shown


async def test_a_replayed_event_becomes_a_run_that_knows_its_replay(shared: Penstock, run: Command) -> None:
    event = await event_of(shared, await shared.hook(), b'{"a": 1}')

    dry = run("events", "replay", event, "--dry-run", "--json")
    replayed = run("events", "replay", event, "--follow", "--json")

    assert msgspec.json.decode(dry.stdout)["verdict"] == "accepted"
    found = msgspec.json.decode(replayed.stdout)
    assert (replayed.exit_code, found["state"], found["origin"]) == (0, "success", "replay")
    listed = run("runs", "ls", "--replay", found["replay_id"], "--json")
    assert [one["id"] for one in msgspec.json.decode(listed.stdout)] == [found["id"]]


async def test_all_that_a_filter_finds_is_replayed(shared: Penstock, run: Command) -> None:
    hook = await shared.hook()
    for number in range(3):
        await event_of(shared, hook, b'{"n": %d}' % number)
    which = ("--schedule", schedule_of(hook), "--q", '"n"')

    counted = run("events", "replay", *which, "--dry-run", "--json")
    done = run("events", "replay", *which, "--rate", "100", "--json")

    assert msgspec.json.decode(counted.stdout)["count"] == 3
    found = msgspec.json.decode(done.stdout)
    assert (done.exit_code, found["state"], found["accepted"], found["runs"]) == (0, "completed", 3, 3)
    assert run("replays", "show", str(found["number"]), "--json").stdout == done.stdout


class Tail:
    """`penstock events tail` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout
        async with asyncio.timeout(WITHIN_S):
            return (await self._process.stdout.readline()).decode()

    async def says(self) -> str:
        assert self._process.stderr
        async with asyncio.timeout(WITHIN_S):
            return (await self._process.stderr.readline()).decode()

    async def interrupt(self) -> tuple[int | None, bytes, bytes]:
        """Press Ctrl-C; return the exit code and what was still printed."""
        self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(WITHIN_S):
            out, err = await self._process.communicate()
        return self._process.returncode, out, err


@contextlib.asynccontextmanager
async def tailing(shared: Penstock, *options: str) -> AsyncIterator[Tail]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway", "events", "tail", *options),
        env=shared.environ | {"PENSTOCK_URL": shared.url, "PENSTOCK_API_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Tail(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_tail_prints_each_new_event_once_until_ctrl_c(shared: Penstock, run: Command) -> None:
    hook, other = await shared.hook(), await shared.hook()
    old = [await event_of(shared, hook, b'{"old": %d}' % number) for number in range(2)]
    async with tailing(shared, "--schedule", schedule_of(hook), "--last", "1", "-o", "jsonl") as tail:
        assert await tail.says() == "Waiting for events; Ctrl-C ends it.\n"
        assert msgspec.json.decode(await tail.line())["id"] == old[1]

        sent = []
        for burst in range(3):
            bodies = [b'{"burst": %d, "n": %d}' % (burst, number) for number in range(20)]
            sent += await asyncio.gather(*(event_of(shared, hook, body) for body in bodies))
            await event_of(shared, other)
            printed = [msgspec.json.decode(await tail.line())["id"] for _ in bodies]
            assert sorted(printed) == sorted(sent[-20:])

        assert await tail.interrupt() == (130, b"", b"")


async def test_tail_goes_on_when_the_gateway_comes_back(
    servers: EmbeddedServers, database_url: str, tmp_path: Path
) -> None:
    urls = {"database_url": database_url, "redis_url": servers.redis_url}
    async with Penstock(**urls, directory=tmp_path, pipelines=FLOWS) as own:
        gateway, _ = await own.start()
        hook = await own.hook()
        async with tailing(own, "-o", "jsonl") as tail:
            await tail.says()
            await gateway.end()
            assert (await tail.says()).startswith(f"No gateway answers at {own.url}")
            await own.start_gateway()
            event = await event_of(own, hook)

            assert msgspec.json.decode(await tail.line())["id"] == event
            assert await tail.interrupt() == (130, b"", b"")
