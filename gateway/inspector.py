"""Reading back what was delivered."""

import uuid

from schemas.events import Event, EventBody, EventFilter
from schemas.pages import Found, Page
from schemas.store import events
from schemas.store.db import Database


class Inspector:
    """Reads events; a delivery that was refused at the gate has left none."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_page(self, page: Page, which: EventFilter) -> Found[Event]:
        """Find the newest events, without their bodies."""
        return await events.list_page(self._db, page.before_id, which, limit=page.limit + 1)

    async def get(self, event_id: uuid.UUID) -> Event:
        """Read one event; raises NotFound."""
        return await events.get(self._db, event_id)

    async def body(self, event_id: uuid.UUID) -> EventBody:
        """Read the bytes of one event; raises NotFound."""
        return await events.body(self._db, event_id)
