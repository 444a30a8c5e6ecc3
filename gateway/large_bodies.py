"""Bodies that are too large for a row: in the object store before their event is committed, so that a 2xx means both.

What no event came to name, since the delivery was a duplicate or was refused after all, is deleted again. Where that
cannot be known or done (the commit is in doubt, this process is killed), it goes with its day when that is purged.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from schemas import tasks
from schemas.errors import PenstockError, Unavailable
from schemas.events import Delivery
from schemas.objects import ObjectStore, body_key, insist
from schemas.store import events
from schemas.store.db import Database

MOST_HELD = 128 << 20  # bytes of all that are on their way


class LargeBodies:
    """Puts bodies into the object store for as long as a commit takes, and leaves those there that it named."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store
        self._held = 0
        self._discarding: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Leave what is still to be deleted to the purge of its day."""
        await tasks.end(list(self._discarding))

    @asynccontextmanager
    async def moved(self, delivery: Delivery, *, until: float) -> AsyncIterator[None]:
        """Have the body of a delivery in the object store instead, while it is committed.

        The database is asked first: while it is away nothing is stored. What came before with the same key is not
        stored again, as nothing is kept of the body of such a duplicate. Raises Unavailable when the store does not
        have it `until` then (the loop's clock), or too much waits for it.
        """
        with self._weighed(delivery.size):
            body, delivery.body = delivery.body, b""
            if await self._sha256_of_first(delivery, until) == delivery.sha256:
                yield
                return
            async with self._stored(delivery.event_id, body, until) as delivery.object:
                yield

    @asynccontextmanager
    async def _stored(self, event_id: uuid.UUID, body: bytes, until: float) -> AsyncIterator[str]:
        key = body_key(event_id)
        try:
            await self._put(key, body, until)
        except BaseException:
            self._discard_soon(event_id, key)
            raise
        try:
            yield key
        except Unavailable:  # nobody knows whether it was committed
            raise
        except PenstockError:
            self._discard_soon(event_id, key)
            raise
        self._discard_soon(event_id, key)

    async def _sha256_of_first(self, delivery: Delivery, until: float) -> bytes | None:
        return await insist(
            lambda: events.sha256_of_first(self._db, delivery.schedule_id, delivery.dedupe_key), for_s=_left_s(until)
        )

    async def _put(self, key: str, body: bytes, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await insist(lambda: self._store.put(key, body), for_s=_left_s(until))
        except TimeoutError:
            raise Unavailable("The object store does not answer.") from None

    @contextmanager
    def _weighed(self, size: int) -> Iterator[None]:
        if self._held + size > MOST_HELD:
            raise Unavailable("Too much is waiting for the object store.", retry_after=2)
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    def _discard_soon(self, event_id: uuid.UUID, key: str) -> None:
        task = asyncio.create_task(self._discard_unnamed(event_id, key))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _discard_unnamed(self, event_id: uuid.UUID, key: str) -> None:
        with contextlib.suppress(PenstockError):
            if not await events.names_object(self._db, event_id):
                await self._store.delete([key])


def _left_s(until: float) -> float:
    return until - asyncio.get_running_loop().time()
