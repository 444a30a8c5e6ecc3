"""Find out what the files in the pipelines directory define, without ever importing one of them here."""

import asyncio
import hashlib
import itertools
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runner.child import Child
from runner.wire import Described, Failed, Reason, Reply
from schemas.pipelines import Definition

TIMEOUT = 10.0
_CHILDREN = 2
_GRACE = 0.5
_STEM_LIMIT = 180  # a pipeline id has 200
_UNNAMED = ""


async def load(directory: Path, *, timeout: float = TIMEOUT) -> list[Definition]:  # noqa: ASYNC109  (of one file)
    """Load every pipeline file of a directory in child processes, and return definitions with unique ids.

    A file that cannot be loaded within `timeout` seconds, for whatever reason, is one definition with `error`; its id
    is the file's stem. When two files define the same pipeline, the later one by name is such an error.
    """
    paths = sorted(name for name in fingerprint(directory) if not name.startswith("_"))
    found = await _Loading(directory, timeout).run(paths)
    return _with_unique_ids([definition for path in paths for definition in found[path]])


def fingerprint(directory: Path) -> dict[str, tuple[int, int]]:
    """Return modification time (ns) and size of each Python file, shared code too: cheap to poll for edits."""
    found = {}
    for path in directory.glob("*.py"):
        try:
            status = path.stat()
        except OSError:  # gone since it was listed
            continue
        if stat.S_ISREG(status.st_mode) and not path.name.startswith("."):
            found[path.name] = (status.st_mtime_ns, status.st_size)
    return found


class _Loading:
    """One pass over the files, by a few children that serve many files each and are replaced when one kills them."""

    def __init__(self, directory: Path, timeout: float) -> None:
        self._directory = directory.resolve()
        self._timeout = timeout
        self._found: dict[str, tuple[Definition, ...]] = {}

    async def run(self, paths: list[str]) -> dict[str, tuple[Definition, ...]]:
        pending = deque(paths)
        await asyncio.gather(*(self._work(pending) for _ in range(min(_CHILDREN, len(paths)))))
        return self._found

    async def _work(self, pending: deque[str]) -> None:
        child: Child | None = None
        try:
            while pending:
                path = pending.popleft()
                is_fresh = child is None
                child = child or await self._start_child()
                reply = await child.describe(path, within=self._timeout)
                if not child.is_usable:
                    await child.close()
                    child = None
                if _is_death(reply) and not is_fresh:
                    pending.appendleft(path)  # an earlier file may have killed it, a thread of it for example
                else:
                    self._found[path] = self._definitions(path, reply)
        finally:
            if child is not None:
                child.kill()
                await child.close()

    async def _start_child(self) -> Child:
        child = Child(grace=_GRACE)
        await child.start(self._directory)
        return child

    def _definitions(self, path: str, reply: Described | Failed) -> tuple[Definition, ...]:
        if isinstance(reply, Described):
            return reply.definitions
        return (Definition(id=_UNNAMED, path=path, version=self._version(path), error=self._explain(path, reply)),)

    def _explain(self, path: str, failure: Failed) -> str:
        if failure.reason is Reason.RAISED:
            return failure.error.message
        if failure.reason is Reason.TIMEOUT:
            places = re.findall(r'File "(.+?)", line (\d+)', failure.error.traceback or "")
            return f"{':'.join(places[-1]) if places else path}: it did not load within {self._timeout:g} s"
        return f"{failure.error.message}, while it was loaded"

    def _version(self, path: str) -> str:
        try:
            return hashlib.sha256((self._directory / path).read_bytes()).hexdigest()
        except OSError:
            return ""


def _is_death(reply: Reply) -> bool:
    return isinstance(reply, Failed) and reply.reason is Reason.HOST_DIED


def _with_unique_ids(found: list[Definition]) -> list[Definition]:
    """Let the first file have an id, and name what has none, or not its own, after its file."""
    owners: dict[str, str] = {}
    unique, unnamed = [], []
    for definition in found:
        if definition.id == _UNNAMED:
            unnamed.append(definition)
        elif definition.id in owners:
            error = f"{definition.path}: pipeline {definition.id!r} is already defined in {owners[definition.id]}"
            unnamed.append(Definition(id=_UNNAMED, path=definition.path, version=definition.version, error=error))
        else:
            owners[definition.id] = definition.path
            unique.append(definition)
    for definition in unnamed:
        free = next(candidate for candidate in _names(definition.path) if candidate not in owners)
        owners[free] = definition.path
        unique.append(msgspec.structs.replace(definition, id=free))
    return sorted(unique, key=lambda definition: (definition.path, definition.id))


def _names(path: str) -> Iterator[str]:
    stem, name = (re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:_STEM_LIMIT] for text in (Path(path).stem, path))
    yield re.sub(r"^[.-]", "_", stem)
    yield re.sub(r"^[.-]", "_", name)
    yield from (f"_{name}.{number}" for number in itertools.count(2))
