"""Reading back what was delivered."""

import datetime as dt
import uuid

from schemas.events import Event, EventBody
from schemas.pages import Page
from schemas.states import Verdict
from schemas.store import events
from schemas.store.db import Database


class Inspector:
    """Reads events; a delivery that was refused at the gate has left none."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_page(
        self,
        page: Page,
        *,
        schedule_id: uuid.UUID | None,
        verdict: Verdict | None,
        source: str | None,
        created_after: dt.datetime | None,
        created_before: dt.datetime | None,
    ) -> list[Event]:
        """Read the newest events, without their bodies."""
        return await events.list_page(
            self._db,
            page.before_id,
            schedule_id=schedule_id,
            verdict=verdict,
            source=source,
            created_after=created_after,
            created_before=created_before,
            limit=page.limit + 1,
        )

    async def get(self, event_id: uuid.UUID) -> Event:
        """Read one event; raises NotFound."""
        return await events.get(self._db, event_id)

    async def body(self, event_id: uuid.UUID) -> EventBody:
        """Read the bytes of one event; raises NotFound."""
        return await events.body(self._db, event_id)
