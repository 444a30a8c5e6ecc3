"""The pipelines that this runner has: read from its directory, published to Postgres, watched for edits."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from runner import loader
from runner.hosts import Hosts
from schemas import tasks
from schemas.pipelines import Definition
from schemas.store import pipelines
from schemas.store.db import Database

log = structlog.get_logger()

LOOK_EVERY_S = 0.5


class Library:
    """Knows the newest good definition of each pipeline in the directory."""

    def __init__(self, db: Database, hosts: Hosts, *, directory: Path, reload: bool) -> None:
        self._db = db
        self._hosts = hosts
        self._directory = directory
        self._reload = reload
        self._definitions: dict[str, Definition] = {}
        self._fingerprint: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read and publish everything once, then watch for edits."""
        await self._read()
        if self._reload:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        await tasks.end([self._task])

    def get(self, pipeline_id: str) -> Definition | None:
        """Find the definition of a pipeline."""
        return self._definitions.get(pipeline_id)

    @property
    def versions(self) -> Mapping[str, str]:
        """Say which pipelines can run here, and in which version."""
        return {name: definition.version for name, definition in self._definitions.items()}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if loader.fingerprint(self._directory) != self._fingerprint:
                try:
                    await self._read()
                except Exception:
                    log.exception("pipelines are not published, trying again")
                    self._fingerprint = {}

    async def _read(self) -> None:
        before, self._fingerprint = self._fingerprint, loader.fingerprint(self._directory)
        found = await loader.load(self._directory)
        await pipelines.publish(self._db, found)
        for path in before.keys() - self._fingerprint.keys():
            await pipelines.file_is_gone(self._db, path)
        broken = {definition.path for definition in found if definition.graph is None}
        kept = {name: old for name, old in self._definitions.items() if old.path in broken}
        is_edit = bool(before)
        self._definitions = kept | {definition.id: definition for definition in found if definition.graph is not None}
        if is_edit:
            self._hosts.retire()
        self._report(found)

    def _report(self, found: list[Definition]) -> None:
        log.info("pipelines read", directory=str(self._directory), pipelines=sorted(self._definitions))
        for definition in found:
            if definition.error:
                log.warning("pipeline file is broken", file=definition.path, error=definition.error)
