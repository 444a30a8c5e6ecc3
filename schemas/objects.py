"""The object store: a folder or a bucket for what is too large for a row.

Everything of one run lies under `runs/<run_id>/`, the body of an event under `events/<day>/<event_id>/`, so that a
purge deletes a run, an event or a whole day by its prefix; an object that nobody came to name (who wrote it died
between upload and commit) is deleted with the others then.
"""

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from schemas.errors import NotFound, SettingsError, Unavailable
from schemas.ids import moment_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

T = TypeVar("T")
INLINE_LIMIT = 256 << 10  # bytes; what is larger goes into the object store
CHUNK = 4 << 20
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
UPLOADS_AT_ONCE = 3  # parts of one object; each is held in memory
_RETRIES: Any = {"max_retries": 3, "retry_timeout": dt.timedelta(seconds=20)}
_CLIENT: Any = {
    "connect_timeout": "5s",
    "read_timeout": "30s",
    "timeout": "10m",
    "allow_http": True,  # only a user's own endpoint is one, such as a MinIO next door
}


def run_prefix(run_id: uuid.UUID) -> str:
    """Name the prefix under which everything of a run lies."""
    return f"runs/{run_id}"


def day_prefix(day: dt.date) -> str:
    """Name the prefix under which the bodies of all events of a day (UTC) lie, which is a day of their ids."""
    return f"events/{day.isoformat()}"


def body_key(event_id: uuid.UUID) -> str:
    """Name the object with the body of an event; all but its last segment is the prefix of the event."""
    return f"{day_prefix(moment_of(event_id).date())}/{event_id}/body"


async def insist(
    work: Callable[[], Awaitable[T]], *, for_s: float, on_failure: Callable[[Unavailable], None] = lambda _: None
) -> T:
    """Do something again while it is Unavailable; raises that when it stays so for so many seconds."""
    loop = asyncio.get_running_loop()
    give_up_at, pause = loop.time() + for_s, FIRST_PAUSE_S
    while True:
        try:
            return await work()
        except Unavailable as error:
            if loop.time() + pause > give_up_at:
                raise
            on_failure(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


class ObjectStore:
    """Keeps objects by key; opened when it is first needed, since most runs never need it.

    `place` is the path of a folder, which is made, or a URL such as `s3://bucket/prefix` (credentials and endpoint
    then come from the environment, as the SDK of that store reads them). Every method raises Unavailable while the
    store is away; there is no time limit of its own around an upload or download.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._folder = None if urlsplit(place).scheme in _SCHEMES else Path(place.removeprefix("file://")).absolute()

    @property
    def place(self) -> str:
        """Where another process of this machine finds the same store."""
        return self._place if self._folder is None else str(self._folder)

    async def put(self, key: str, data: bytes) -> None:
        """Write an object; durable when this returns."""
        await self._put(key, data)

    async def put_file(self, key: str, path: Path) -> None:
        """Write a file's content as an object, piece by piece; durable when this returns."""
        await self._put(key, path)

    async def get(self, key: str) -> bytes:
        """Read an object; raises NotFound."""
        async with _faults(key):
            found = await (await self._bucket()).get_async(key)
            return bytes(await found.bytes_async())

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        """Read an object piece by piece; raises NotFound or Unavailable, also when it is too late to say so."""
        async with _faults(key):
            found = await (await self._bucket()).get_async(key)
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    async def get_to_file(self, key: str, path: Path) -> None:
        """Read an object into a file, which is there only when it is complete; raises NotFound."""
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            async with _faults(key):
                found = await (await self._bucket()).get_async(key)
                with await asyncio.to_thread(open, part, "wb") as file:
                    async for chunk in found.stream(min_chunk_size=CHUNK):
                        await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(part.replace, path)
        finally:
            part.unlink(missing_ok=True)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""
        async with _faults(", ".join(keys[:3])):
            bucket = await self._bucket()
            for key in [keys] if self._folder is None else keys:
                with contextlib.suppress(FileNotFoundError):
                    await bucket.delete_async(key)

    async def delete_prefix(self, prefix: str) -> None:
        """Delete every object below a prefix, which is whole segments of keys: `runs/1` does not mean `runs/10`."""
        segments = prefix.strip("/").split("/")
        if not all(segment.strip(".") for segment in segments):
            raise ValueError(f"{prefix!r} is no prefix")
        async with _faults(prefix):
            if self._folder is not None:
                await asyncio.to_thread(_remove, self._folder.joinpath(*segments))
                return
            bucket = await self._bucket()
            async for found in bucket.list(prefix, chunk_size=1000):
                await bucket.delete_async([item["path"] for item in found])

    async def _put(self, key: str, content: bytes | Path) -> None:
        async with _faults(key):
            try:
                await (await self._bucket()).put_async(key, content, max_concurrency=UPLOADS_AT_ONCE)
                if self._folder is not None:
                    await asyncio.to_thread(_sync, self._folder, key)
            except FileNotFoundError as error:  # a folder was made for it, and cleared away as empty by a delete
                raise Unavailable("The object store has lost a folder.") from error

    async def _bucket(self) -> "Bucket":
        return await asyncio.to_thread(lambda: self._opened)

    @cached_property
    def _opened(self) -> "Bucket":
        from obstore.store import LocalStore, from_url  # 6 MiB that most processes never need

        if self._folder is not None:
            return LocalStore(self._folder, mkdir=True, automatic_cleanup=True)
        return from_url(self._place, client_options=_CLIENT, retry_config=_RETRIES)


_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "memory")


def store_place(store: str, data: str) -> str:
    """Say where objects are kept: where the setting says, else in a folder below the data directory.

    Raises SettingsError for a URL of a kind that is not known.
    """
    scheme = urlsplit(store).scheme
    if "://" in store and scheme not in (*_SCHEMES, "file"):
        known = "s3://bucket/prefix, gs://, az://, or the path of a folder"
        raise SettingsError(f"PENSTOCK_STORE: {scheme}:// is no object store; write {known}.")
    return store or str(Path(data) / "objects")


@asynccontextmanager
async def _faults(key: str) -> AsyncIterator[None]:
    """Turn the store's errors into ours; their text names places and is not shown to callers."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"The object {key} is not in the object store.") from None
    except (NotFound, Unavailable, asyncio.CancelledError, ValueError):
        raise
    except Exception as error:
        raise Unavailable(f"The object store is away ({type(error).__name__}).") from error


def _sync(folder: Path, key: str) -> None:
    """Put a file and the names that lead to it on the disk: the store itself does not wait for that."""
    path = folder / key
    for place in (path, *path.parents[: key.count("/") + 1]):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
