"""What a gateway remembers of tokens and keys, so that most requests need no look-up.

It forgets everything when the registry's version moves: at once when Redis says so, within `POLL_S` in any case. What
it does not know it asks for, many questions in one query, and waits for Postgres like every other delivery.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Sequence

import structlog

from schemas import tasks
from schemas.clock import DatabaseClock
from schemas.errors import PenstockError
from schemas.groupcommit import GroupCommit
from schemas.keys import Caller
from schemas.schedules import Gate
from schemas.store import keys, tokens
from schemas.store.db import Database

log = structlog.get_logger()

POLL_S = 1.0
TOUCH_EVERY_S = 5.0
LARGEST = 100_000


class Registry:
    """Finds gates by a token's hash and callers by a key's hash."""

    def __init__(self, db: Database, *, hold_s: float) -> None:
        self._db = db
        self._version = 0
        self._gates: dict[bytes, Gate] = {}
        self._callers: dict[bytes, Caller] = {}
        self._clock = DatabaseClock()
        self._used_tokens: set[uuid.UUID] = set()
        self._used_keys: set[uuid.UUID] = set()
        self._lookups: GroupCommit[bytes, Gate | None] = GroupCommit(self._look_up, hold_s=hold_s)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the version, then keep watching it."""
        await self._refresh()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._touch_now_and_then())]

    async def stop(self) -> None:
        """Stop watching, and write down what was used since the last time."""
        await tasks.end(self._tasks)
        with contextlib.suppress(PenstockError):
            await self._touch()

    async def gate(self, digest: bytes) -> Gate | None:
        """Find the schedule behind a token, or None when there is no such live token; raises Unavailable."""
        gate = self._gates.get(digest)
        if gate is None:
            gate = await self._lookups.submit(digest)
            if gate is None:
                return None
        if gate.expires_at is not None and gate.expires_at <= self._clock.now():
            return None
        self._used_tokens.add(gate.token_id)
        return gate

    def now_s(self) -> float:
        """Tell the database's time, in seconds since 1970."""
        return time.monotonic() + self._clock.ahead_s

    async def caller(self, digest: bytes) -> Caller | None:
        """Find who has a key, or None when nobody has; raises Unavailable."""
        caller = self._callers.get(digest) or await self._find_caller(digest)
        if caller is not None:
            self._used_keys.add(caller.id)
        return caller

    def forget(self, _payload: bytes | None = None) -> None:
        """Forget everything: something changed, or may have changed unheard."""
        self._version += 1  # an answer that is under way must not be remembered
        self._gates.clear()
        self._callers.clear()

    async def _find_caller(self, digest: bytes) -> Caller | None:
        version = self._version
        caller = await keys.find_caller(self._db, digest)
        if caller is not None and version == self._version:
            self._callers[digest] = caller
        return caller

    async def _look_up(self, digests: Sequence[bytes]) -> list[Gate | None]:
        version = self._version
        found = await tokens.gates(self._db, list(set(digests)))
        if version == self._version:
            if len(self._gates) > LARGEST:
                self._gates.clear()
            self._gates.update(found)
        return [found.get(digest) for digest in digests]

    async def _watch(self) -> None:
        seen = await self._refresh_or_note(0)
        while True:
            await asyncio.sleep(POLL_S)
            version = await self._refresh_or_note(seen)
            if version != seen:
                self.forget()
            seen = version

    async def _refresh_or_note(self, seen: int) -> int:
        try:
            return await self._refresh()
        except PenstockError as error:
            log.warning("registry is not refreshed", error=error.message)
            return seen

    async def _refresh(self) -> int:
        sent_at = time.monotonic()
        version, now = await tokens.registry(self._db)
        self._clock.learn(now, sent_at=sent_at, received_at=time.monotonic())
        return version

    async def _touch_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_EVERY_S)
            with contextlib.suppress(PenstockError):
                await self._touch()

    async def _touch(self) -> None:
        used_tokens, self._used_tokens = self._used_tokens, set()
        used_keys, self._used_keys = self._used_keys, set()
        if used_tokens:
            await tokens.touch(self._db, used_tokens)
        if used_keys:
            await keys.touch(self._db, used_keys)
