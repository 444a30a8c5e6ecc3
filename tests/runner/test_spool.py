"""Large outputs between block hosts and the object store: the store is away, a host lies, a runner was killed."""

import asyncio
import fcntl
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.spool import CarryingHosts, Spool
from runner.wire import Call, Failed, Outcome, Reason, Succeeded
from schemas.objects import ObjectStore
from schemas.outputs import Output
from schemas.runs import Claimed
from tests.runner.block_hosts import nowhere

RUN = cast(Claimed, SimpleNamespace(id=uuid.uuid4(), epoch=3))


def write_file(folder: str | None, content: bytes) -> str:
    path = Path(folder or "") / "file"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return str(path)


def content_of(path: str | None) -> bytes:
    return Path(path or "").read_bytes()


def files_in(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def block(place: Path) -> None:
    """Let there be no folder where the store has its place."""
    place.write_text("not a folder")


class Hosts:
    """Block hosts that answer what a test says, and remember what they were asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.output = Output(data=b"\xc0", size=1)
        self.content: bytes | None = None

    limit = 4

    async def run(self, call: Call, **_: Any) -> Outcome:
        self.calls.append(call)
        if self.content is not None:
            path = write_file(call.spool, self.content)
            return Succeeded(output=Output(path=path, size=0, preview=b'{"row_count":1}'))
        return Succeeded(output=self.output)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def spool(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(ObjectStore(str(place)), output_limit=1 << 20, patience_s=0.5)
    spool.open()
    yield spool
    spool.close()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
async def carrying(spool: Spool, hosts: Hosts) -> AsyncIterator[CarryingHosts]:
    async with spool.carry(RUN, hosts) as carrying:
        yield carrying


async def run(carrying: CarryingHosts, *, cancelled: asyncio.Event | None = None, **fields: Any) -> Outcome:
    call = Call(path="p.py", version="", pipeline_id="p", block_id="b", run_id=RUN.id, **fields)
    return await carrying.run(call, timeout=None, on_log=nowhere, cancelled=cancelled)


def failed(outcome: Outcome, reason: Reason) -> str:
    assert isinstance(outcome, Failed)
    assert outcome.reason is reason
    return outcome.error.message


async def test_a_large_output_is_stored_under_its_run_and_handed_on_as_a_file(
    carrying: CarryingHosts, hosts: Hosts, place: Path
) -> None:
    hosts.content = b"large"
    outcome = await run(carrying, attempt=2)
    assert isinstance(outcome, Succeeded)
    key = f"runs/{RUN.id}/b/-1/3-2"
    assert outcome.output == Output(object=key, size=5, preview=b'{"row_count":1}')
    assert (place / key).read_bytes() == b"large"

    hosts.content = None
    (place / key).unlink()  # it is still here, and is not read again
    await run(carrying, inputs={"b": outcome.output})

    given = hosts.calls[-1].inputs["b"]
    assert (given.object, given.data, given.preview) == (None, None, None)
    assert content_of(given.path) == b"large"


async def test_an_input_is_fetched_once_for_many_blocks(
    carrying: CarryingHosts, hosts: Hosts, spool: Spool, place: Path
) -> None:
    await spool.store.put("runs/1/a/-1/1-1", b"from another runner")
    stored = Output(object="runs/1/a/-1/1-1", size=19)

    await asyncio.gather(*(run(carrying, inputs={"a": stored}) for _ in range(5)))

    paths = {call.inputs["a"].path for call in hosts.calls}
    assert len(paths) == 1
    assert content_of(paths.pop()) == b"from another runner"


async def test_a_store_that_stays_away_fails_the_block_with_a_reason(
    carrying: CarryingHosts, hosts: Hosts, place: Path
) -> None:
    block(place)

    message = failed(await run(carrying, inputs={"a": Output(object="runs/1/a", size=1)}), Reason.STORE_AWAY)
    assert message.startswith("an input of block 'b' could not be read: The object store is away")
    hosts.content = b"large"
    outcome = await run(carrying)
    assert failed(outcome, Reason.STORE_AWAY).startswith(
        "the output of block 'b' could not be stored: The object store"
    )
    assert isinstance(outcome, Failed)
    assert outcome.is_worth_retrying


async def test_a_purged_input_fails_the_block_at_once(carrying: CarryingHosts) -> None:
    message = failed(await run(carrying, inputs={"a": Output(object="runs/1/a", size=1)}), Reason.INPUT_MISSING)

    assert message.endswith("The object runs/1/a is not in the object store.")


async def test_a_cancel_does_not_wait_for_the_store(
    carrying: CarryingHosts, hosts: Hosts, spool: Spool, place: Path
) -> None:
    block(place)
    spool.patience_s = 60
    cancelled = asyncio.Event()
    running = asyncio.create_task(run(carrying, cancelled=cancelled, inputs={"a": Output(object="a", size=1)}))
    await asyncio.sleep(0)
    cancelled.set()

    async with asyncio.timeout(10):
        failed(await running, Reason.CANCELLED)
    assert not hosts.calls


async def test_an_upload_that_a_cancel_interrupts_leaves_nothing_behind(
    carrying: CarryingHosts, hosts: Hosts, spool: Spool, place: Path
) -> None:
    put_file, cancelled = spool.store.put_file, asyncio.Event()

    async def put_and_stall(key: str, path: Path) -> None:
        await put_file(key, path)
        cancelled.set()
        await asyncio.Event().wait()

    spool.store.put_file = put_and_stall  # type: ignore[method-assign]
    hosts.content = b"large"

    failed(await run(carrying, cancelled=cancelled), Reason.CANCELLED)
    assert not files_in(place)


@pytest.mark.parametrize("path", ["/etc/passwd", "relative", "{folder}/../other", "{folder}/link", "{folder}"])
async def test_a_host_cannot_have_other_files_stored(
    carrying: CarryingHosts, hosts: Hosts, spool: Spool, path: str
) -> None:
    folder = spool.folder_of(f"{RUN.id.hex}.{RUN.epoch}")
    Path(write_file(folder, b"")).with_name("link").symlink_to("/etc/passwd")
    hosts.output = Output(path=path.format(folder=folder), size=1)

    assert failed(await run(carrying), Reason.INPUT_MISSING).endswith("Its file is not in the spool.")


@pytest.mark.parametrize("preview", [b"", b"\xff", b"{", b"[]", b"{}" * 200_000, b"[" * 100_000])
async def test_a_preview_that_is_none_is_left_out(carrying: CarryingHosts, hosts: Hosts, preview: bytes) -> None:
    hosts.output = Output(data=b"\xc0", size=1, preview=preview)

    outcome = await run(carrying)

    assert isinstance(outcome, Succeeded)
    assert outcome.output == Output(data=b"\xc0", size=1)


def test_a_new_spool_clears_away_what_killed_runners_left_and_nothing_else(spool: Spool, tmp_path: Path) -> None:
    for name in ("penstock-runner-dead", "penstock-runner-alive", "penstock-runner-foreign"):
        (tmp_path / name / "run").mkdir(parents=True)
    (tmp_path / "penstock-runner-dead" / ".lock").touch()
    alive = os.open(tmp_path / "penstock-runner-alive" / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(alive, fcntl.LOCK_EX)
    (tmp_path / "penstock-runner-link").symlink_to(tmp_path / "penstock-runner-alive")

    second = Spool(spool.store, output_limit=1)
    second.open()
    second.close()
    spool.close()
    os.close(alive)

    left = {path.name for path in tmp_path.glob("penstock-runner-*")}
    assert left == {"penstock-runner-alive", "penstock-runner-foreign", "penstock-runner-link"}
