"""Where large outputs lie on their way: a folder of this runner that block hosts write into and read from.

A block's success is told only after its output is in the object store, so a large output is as durable as a small one.
An object whose run could not name it any more (this runner died, or lost the run, in between) is an orphan: it lies
under the prefix of its run and goes when the run is purged.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec
import structlog

from runner.child import OnLog
from runner.context import EventBody
from runner.wire import OUTPUT_LIMIT, Asked, Call, Failed, Outcome, Reason, Refused, Succeeded
from schemas import tasks
from schemas.errors import NotFound, PenstockError, SettingsError, Unavailable
from schemas.objects import ObjectStore, insist, run_prefix
from schemas.outputs import UNMAPPED, Output
from schemas.payload import Kind
from schemas.previews import MOST_BYTES as LARGEST_PREVIEW
from schemas.previews import Preview
from schemas.runs import Claimed, RunError
from schemas.settings import event_body_url

log = structlog.get_logger()
T = TypeVar("T")

PATIENCE_S = 30.0  # in which the object store may come back before the block fails
DISCARD_WITHIN_S = 2.0
_NAME = "penstock-runner-"
_LOCK = ".lock"


class BlockHosts(Protocol):
    """Whatever executes blocks: the pool of block hosts, or the same with more around it."""

    @property
    def limit(self) -> int:
        """How many blocks are executed at the same time at most."""
        ...

    async def run(
        self,
        call: Call,
        *,
        timeout: float | None,  # noqa: ASYNC109  (the block's own)
        on_log: OnLog,
        cancelled: asyncio.Event | None = None,
        ready_at: float | None = None,
    ) -> Outcome | Asked:
        """Execute one block."""
        ...


class Carrier(BlockHosts, Protocol):
    """Block hosts whose large outputs can be had here, too."""

    async def load(self, output: Output) -> Output:
        """Have the bytes of an output in memory, unless they are too many; raises Refused."""
        ...


class Spool:
    """The folder of this runner, in the system's directory for temporary files (TMPDIR)."""

    def __init__(
        self, store: ObjectStore, *, output_limit: int, base_url: str = "", patience_s: float = PATIENCE_S
    ) -> None:
        self.store = store
        self.base_url = base_url
        self.output_limit = output_limit
        self.patience_s = patience_s
        self._folder: Path | None = None
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder, and clear away those of runners that were killed; raises SettingsError."""
        try:
            _clear_abandoned(Path(tempfile.gettempdir()))
            self._folder = Path(tempfile.mkdtemp(prefix=_NAME))
            self._lock = _lock(self._folder)
        except OSError as error:
            raise SettingsError(f"TMPDIR: no folder for temporary files can be made ({error.strerror}).") from None

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def folder_of(self, name: str) -> str:
        """Name the folder of one run; who writes the first file makes it."""
        return f"{self._folder}/{name}"

    def carry(self, run: Claimed, hosts: BlockHosts) -> "CarryingHosts":
        """Let hosts execute the blocks of a run, and carry large outputs between them and the object store."""
        return CarryingHosts(self, run, hosts)


class CarryingHosts:
    """Executes the blocks of one run; use it with `async with`, which clears away what lies in the spool."""

    def __init__(self, spool: Spool, run: Claimed, hosts: BlockHosts) -> None:
        self._spool = spool
        self._hosts = hosts
        self._run = run
        self._folder = spool.folder_of(f"{run.id.hex}.{run.epoch}")
        self._is_used = False  # most runs have nothing large, and then nothing is cleared away
        self._fetches: dict[str, asyncio.Task[Path]] = {}
        self._paths: dict[str, Path] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_used:
            await tasks.end(list(self._fetches.values()))
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def run(
        self,
        call: Call,
        *,
        timeout: float | None,  # noqa: ASYNC109  (the block's own; carrying its data does not count)
        on_log: OnLog,
        cancelled: asyncio.Event | None = None,
        ready_at: float | None = None,
    ) -> Outcome | Asked:
        """Execute one block like the hosts do, whose large inputs and output lie in the object store."""
        try:
            if _has_large_inputs(call):
                call = await _unless(cancelled, self._fetch_inputs(call))
        except (PenstockError, _Interrupted) as error:
            return _failure(call, error, "an input of block {!r} could not be read")
        limit = self._spool.output_limit
        call = msgspec.structs.replace(call, spool=self._folder, output_limit=limit, event=self._found(call))
        outcome = await self._hosts.run(call, timeout=timeout, on_log=on_log, cancelled=cancelled, ready_at=ready_at)
        if isinstance(outcome, Succeeded) and outcome.output.path is None and outcome.output.preview is None:
            return outcome
        self._is_used = True
        if not isinstance(outcome, Succeeded):
            return outcome
        outcome = msgspec.structs.replace(outcome, output=_with_sound_preview(outcome.output))
        if outcome.output.path is None:
            return outcome
        try:
            output = await _unless(cancelled, self._keep(call, outcome.output, Path(outcome.output.path)))
        except (PenstockError, _Interrupted) as error:
            await self._discard(call)
            return _failure(call, error, "the output of block {!r} could not be stored")
        return msgspec.structs.replace(outcome, output=output)

    async def load(self, output: Output) -> Output:
        """Have the bytes of an output in memory, unless they are too many; raises Refused."""
        if output.size > OUTPUT_LIMIT:
            return output
        try:
            return await load_file(await self._fetch(output))
        except PenstockError as error:
            raise Refused(_reason(error), f"an output could not be read: {error.message}") from None

    @property
    def limit(self) -> int:
        return self._hosts.limit

    def _found(self, call: Call) -> EventBody | None:
        """Say where the body of an event lies that is described, and where callers find it: a block may read it."""
        event, event_id = call.event, call.event_id
        if event is None or event_id is None or (event.object is None and event.kind is not Kind.BINARY):
            return event
        url = event_body_url(self._spool.base_url, event_id)
        return msgspec.structs.replace(event, url=url, store=self._spool.store.place)

    async def _keep(self, call: Call, output: Output, path: Path) -> Output:
        """Put an output into the object store; its file stays for the blocks after this one."""
        size = _size_of(path) if path.parent == Path(self._folder) else None
        if size is None:  # what says so is a process that runs user code
            raise NotFound("Its file is not in the spool.")
        key = self._key(call)
        await self._patiently(lambda: self._spool.store.put_file(key, path))
        self._paths[key] = path
        return Output(output.format, None, key, None, size, output.preview)

    async def _discard(self, call: Call) -> None:
        """Delete what may have been stored of an output that nobody will name, if that is done at once."""
        with contextlib.suppress(PenstockError, TimeoutError):
            async with asyncio.timeout(DISCARD_WITHIN_S):
                await self._spool.store.delete([self._key(call)])

    def _key(self, call: Call) -> str:
        index = UNMAPPED if call.map_index is None else call.map_index
        return f"{run_prefix(self._run.id)}/{call.block_id}/{index}/{self._run.epoch}-{call.attempt}"

    async def _fetch_inputs(self, call: Call) -> Call:
        inputs = {name: await self._fetch(given) for name, given in call.inputs.items()}
        gathered = {
            name: [None if given is None else await self._fetch(given) for given in items]
            for name, items in call.gathered.items()
        }
        return msgspec.structs.replace(call, inputs=inputs, gathered=gathered)

    async def _fetch(self, output: Output) -> Output:
        """Have an output's object in a file, each once for a run."""
        if output.object is None:
            return output if output.preview is None else msgspec.structs.replace(output, preview=None)
        if output.object not in self._paths:
            self._paths[output.object] = await self._download(output.object)
        return Output(output.format, None, None, str(self._paths[output.object]), output.size)

    async def _download(self, key: str) -> Path:
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = asyncio.create_task(self._download_now(key))
            fetch.add_done_callback(lambda _: self._fetches.pop(key, None))
        return await asyncio.shield(fetch)

    async def _download_now(self, key: str) -> Path:
        self._is_used = True
        folder = Path(self._folder)
        await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        path = folder / uuid.uuid4().hex
        await self._patiently(lambda: self._spool.store.get_to_file(key, path))
        return path

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Try again while the store is away; raises Unavailable when it stays away."""
        await insist(work, for_s=self._spool.patience_s, on_failure=_warn)


def _warn(error: Unavailable) -> None:
    log.warning("object store is away, trying again", error=str(error.__cause__)[:500])


async def load_file(output: Output) -> Output:
    """Read the file of an output, if that is where it lies and it may go through memory."""
    if output.path is None or output.size > OUTPUT_LIMIT:
        return output
    data = await asyncio.to_thread(Path(output.path).read_bytes)
    return Output(output.format, data, None, None, len(data))


class _Interrupted(Exception):
    """The run was stopped while its data was carried."""


async def _unless(cancelled: asyncio.Event | None, work: Coroutine[Any, Any, T]) -> T:
    """Do something unless the run stops before it is done; raises _Interrupted then."""
    doing = asyncio.create_task(work)
    stopping = asyncio.create_task((cancelled or asyncio.Event()).wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise _Interrupted("the run was stopped")
        return doing.result()
    finally:
        await tasks.end([doing, stopping])


def _has_large_inputs(call: Call) -> bool:
    """Tell whether an input has more than its bytes; most have not."""
    if any(_is_large(given) for given in call.inputs.values()):
        return True
    return any(_is_large(given) for items in call.gathered.values() for given in items if given is not None)


def _is_large(output: Output) -> bool:
    return output.object is not None or output.preview is not None


def _with_sound_preview(output: Output) -> Output:
    """Leave out a preview that is none: who sends it runs user code, and it is stored as JSON."""
    try:
        preview = output.preview or b""
        preview.decode()
        if len(preview) <= LARGEST_PREVIEW and msgspec.json.decode(preview, type=Preview):
            return output
    except (ValueError, RecursionError):
        pass
    return msgspec.structs.replace(output, preview=None)


def _failure(call: Call, error: Exception, what: str) -> Failed:
    reason = _reason(error)
    message = f"{what.format(call.block_id)}: {error}"
    return Failed(reason=reason, error=RunError(type=reason, message=message, block_id=call.block_id))


def _reason(error: Exception) -> Reason:
    if isinstance(error, _Interrupted):
        return Reason.CANCELLED
    return Reason.STORE_AWAY if isinstance(error, Unavailable) else Reason.INPUT_MISSING


def _size_of(path: Path) -> int | None:
    status = path.lstat() if path.exists() else None
    return status.st_size if status and stat.S_ISREG(status.st_mode) else None


def _lock(folder: Path) -> int:
    """Hold a lock in a folder for as long as this process lives; raises OSError when somebody else has it."""
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _clear_abandoned(place: Path) -> None:
    """Remove our folders that no living runner holds the lock of."""
    for folder in place.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink() and (folder / _LOCK).exists():
                descriptor = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
