"""Reading back what was delivered."""

import hashlib
import uuid
from collections.abc import AsyncIterator

import msgspec

from schemas.errors import Conflict, NotFound
from schemas.events import Event, EventBody, EventFilter
from schemas.objects import ObjectStore
from schemas.pages import Found, Page
from schemas.store import events
from schemas.store.db import Database


class Inspector:
    """Reads events; a delivery that was refused at the gate has left none."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def list_page(self, page: Page, which: EventFilter) -> Found[Event]:
        """Find the newest events, without their bodies."""
        return await events.list_page(self._db, page.before_id, which, limit=page.limit + 1)

    async def get(self, event_id: uuid.UUID) -> Event:
        """Read one event; raises NotFound."""
        return await events.get(self._db, event_id)

    async def body(self, event_id: uuid.UUID) -> EventBody:
        """Read the bytes of one event, wherever they lie; raises what `body_in_pieces` raises."""
        found = await events.body(self._db, event_id)
        if found.object is None:
            return found
        return msgspec.structs.replace(found, body=b"".join([piece async for piece in self._fetch(event_id, found)]))

    async def body_in_pieces(self, event_id: uuid.UUID) -> tuple[int, AsyncIterator[bytes]]:
        """Read how many bytes an event has, and then the bytes piece by piece.

        Raises NotFound, Unavailable, Conflict when they are damaged; that can be too late for an answer, but is always
        before the last piece.
        """
        found = await events.body(self._db, event_id)
        if found.object is None:
            return len(found.body), _pieces(found.body)
        rest = self._fetch(event_id, found)
        return found.size, _pieces(await anext(rest), rest)

    async def _fetch(self, event_id: uuid.UUID, found: EventBody) -> AsyncIterator[bytes]:
        seen, last = hashlib.sha256(), b""
        try:
            async for piece in self._store.stream(found.object or ""):
                seen.update(piece)
                if last:
                    yield last
                last = piece
        except NotFound:
            raise NotFound(f"The body of event {event_id} is not in the object store any more.") from None
        if seen.digest() != found.sha256:
            raise Conflict(f"The body of event {event_id} is damaged: its bytes in the object store have changed.")
        yield last


async def _pieces(first: bytes, rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    yield first
    if rest is not None:
        async for piece in rest:
            yield piece
