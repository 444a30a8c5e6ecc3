"""What callers see of the outputs of blocks: a preview, a profile, a download.

Previews are stored or cheap. Profiles and conversions are made when they are asked for, by `gateway/profiling.py` in a
process of its own, a few at a time; a profile is kept.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from gateway.profiling import REFUSED, Job
from schemas.errors import Conflict, NotFound, Unavailable
from schemas.objects import ObjectStore
from schemas.outputs import UNMAPPED, Format, StoredOutput
from schemas.previews import Preview, preview_of
from schemas.profiles import Profile, ShownPreview, ShownProfile, find_drift
from schemas.runs import RunRow
from schemas.states import BlockState
from schemas.store import outputs, pipelines, runs
from schemas.store.db import Database

log = structlog.get_logger()

PROCESSES = 2
MOST_WAITING = 20
TIME_S = 60.0
MEMORY = 4 << 30
LARGEST_DECODED = 512 << 20  # of msgpack, which can only be read as a whole
_UNFINISHED = (BlockState.PENDING, BlockState.RUNNING)
_ENVIRONMENT = {"POLARS_MAX_THREADS": "1"}
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Form(StrEnum):
    """In which form an output is downloaded."""

    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.PARQUET: "application/vnd.apache.parquet",
    Form.ARROW: "application/vnd.apache.arrow.file",
}


class Download(msgspec.Struct, frozen=True):
    """A file that is open and has no name any more; it is gone once it is closed."""

    file: BinaryIO
    size: int
    name: str


class Outputs:
    """Reads outputs; runners write them."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store
        self._slots = asyncio.Semaphore(PROCESSES)
        self._waiting = 0

    async def preview(self, run: str, block_id: str, map_index: int | None) -> ShownPreview:
        """Show the first rows of an output; raises NotFound that says why there is none, Conflict if it is damaged."""
        row = await runs.get(self._db, run, largest_body=0)
        stored = await self._get(row, block_id, map_index)
        return ShownPreview(**msgspec.structs.asdict(_preview(stored)), block_id=block_id, map_index=map_index)

    async def profile(self, run: str, block_id: str, map_index: int | None) -> ShownProfile:
        """Describe the columns of an output, and how they differ from the previous run's.

        Raises NotFound that says why there is none, Conflict when the output is no table or too large, Unavailable.
        """
        row = await runs.get(self._db, run, largest_body=0)
        index = UNMAPPED if map_index is None else map_index
        current = await self._profile(row, block_id, index, await self._get(row, block_id, map_index))
        previous_id = await outputs.previous(self._db, row.pipeline_id, row.id, block_id, index)
        previous = None if previous_id is None else await self._profile_of_previous(previous_id, block_id, index)
        return ShownProfile(
            **msgspec.structs.asdict(current),
            block_id=block_id,
            map_index=map_index,
            drift=[] if previous is None else find_drift(previous, current),
            compared_with=None if previous is None else previous_id,
        )

    async def download(self, run: str, block_id: str, map_index: int | None, form: Form) -> Download:
        """Write an output into a file of the form that is asked for; raises what `profile` raises."""
        row = await runs.get(self._db, run, largest_body=0)
        stored = await self._get(row, block_id, map_index)
        suffix = "" if map_index is None else f"-{map_index}"
        async with self._as_file(stored) as source:
            is_there = form is Form.ARROW and stored.format is not Format.MSGPACK
            path = source if is_there else await self._convert(form.value, stored, source)
            file = await asyncio.to_thread(open, path, "rb")
        return Download(file, os.fstat(file.fileno()).st_size, f"run-{row.number}-{block_id}{suffix}.{form.value}")

    async def _get(self, run: RunRow, block_id: str, map_index: int | None) -> StoredOutput:
        index = UNMAPPED if map_index is None else map_index
        stored = await outputs.get(self._db, run.id, block_id, index)
        if stored is None:
            raise NotFound(await self._explain_missing(run, block_id, map_index))
        if stored.format is None:
            raise NotFound(await self._explain_none(run, block_id, map_index, stored.state))
        return stored

    async def _explain_none(self, run: RunRow, block_id: str, map_index: int | None, state: BlockState) -> str:
        if state in _UNFINISHED:
            return f"Block {block_id} has no output yet: it is {state}."
        if state is not BlockState.SUCCESS:
            return f"Block {block_id} has no output: it is {state}."
        graph = await pipelines.graph_of(self._db, run.pipeline_id, run.version)
        is_mapped = graph is not None and any(block.id == block_id and block.map for block in graph.blocks)
        if is_mapped and map_index is None:
            return f"Block {block_id} is mapped: each of its items has an output; choose one with map_index."
        return f"The output of block {block_id} was purged."

    async def _explain_missing(self, run: RunRow, block_id: str, map_index: int | None) -> str:
        graph = await pipelines.graph_of(self._db, run.pipeline_id, run.version)
        if graph is None or all(block.id != block_id for block in graph.blocks):
            return f"Run {run.number} has no block {block_id[:200]!r}."
        if map_index is not None:
            return f"Block {block_id} of run {run.number} has no item {map_index}."
        return f"Block {block_id} has no output yet: it has not begun."

    async def _profile(self, run: RunRow, block_id: str, index: int, stored: StoredOutput) -> Profile:
        if bytes(stored.profile) != b"null":
            return msgspec.json.decode(stored.profile, type=Profile)
        async with self._as_file(stored) as source:
            target = await self._convert("profile", stored, source)
            profile = msgspec.json.decode(await asyncio.to_thread(target.read_bytes), type=Profile)
        await outputs.keep_profile(self._db, run.id, block_id, index, profile=msgspec.json.encode(profile), of=stored)
        return profile

    async def _profile_of_previous(self, run_id: uuid.UUID, block_id: str, index: int) -> Profile | None:
        """What cannot be compared any more (purged, or no table then) is no error of this run."""
        try:
            row = await runs.get(self._db, str(run_id), largest_body=0)
            stored = await outputs.get(self._db, run_id, block_id, index)
            if stored is None or stored.format is None:
                return None
            return await self._profile(row, block_id, index, stored)
        except (NotFound, Conflict):
            return None

    @asynccontextmanager
    async def _as_file(self, stored: StoredOutput) -> AsyncIterator[Path]:
        """Have an output's bytes in a file of a folder that lasts as long as this."""
        if stored.format is Format.MSGPACK and (stored.size or 0) > LARGEST_DECODED:
            raise Conflict(f"The output has {stored.size:,} bytes, too many to be read here; a data frame would not.")
        async with self._slot():
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="penstock-output-"))
            try:
                source = folder / "source"
                if stored.object is None:
                    await asyncio.to_thread(source.write_bytes, stored.data or b"")
                else:
                    await self._fetch(stored.object, source)
                yield source
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _fetch(self, key: str, target: Path) -> None:
        try:
            await self._store.get_to_file(key, target)
        except NotFound:
            raise NotFound("The output was purged: it is not in the object store any more.") from None

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise Unavailable("Too many outputs are being read at the same time.")
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1

    async def _convert(self, action: str, stored: StoredOutput, source: Path) -> Path:
        """Have another process read the file and write what is asked for beside it; returns the path of that."""
        target = source.with_name("target")
        job = Job(
            action=action,
            format=stored.format or Format.MSGPACK,
            source=str(source),
            target=str(target),
            row_count=stored.row_count,
            memory_bytes=MEMORY,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "gateway.profiling", msgspec.json.encode(job).decode()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_without_secrets() | _ENVIRONMENT,
        )
        said = await _outcome(process)
        if process.returncode == 0:
            return target
        if process.returncode == REFUSED:
            raise Conflict(said)
        log.warning("an output was not read", action=action, code=process.returncode, said=said[-2000:])
        limit = f"{MEMORY >> 30} GiB and {TIME_S:g} s"
        raise Conflict(f"The output cannot be read as {action}: it is damaged, or needs more than {limit}.")


async def _outcome(process: asyncio.subprocess.Process) -> str:
    """Wait until a process has ended, and return what it said; kill it when it takes too long or nobody waits."""
    try:
        async with asyncio.timeout(TIME_S):
            _, said = await process.communicate()
            return said.decode(errors="replace")
    except TimeoutError:
        return "it took too long"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _preview(stored: StoredOutput) -> Preview:
    try:
        if bytes(stored.preview) != b"null":
            return msgspec.json.decode(stored.preview, type=Preview)
        if stored.format is Format.MSGPACK and stored.data is not None:
            return preview_of(msgspec.msgpack.decode(stored.data))
    except _UNREADABLE:
        raise Conflict("The output is damaged and cannot be read.") from None
    raise NotFound("This output has no preview.")


def _without_secrets() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "AWS_"))}
