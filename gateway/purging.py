"""Asking for purges, and looking at them; the runners' housekeeping does the work."""

import uuid

from schemas.audit import Action
from schemas.errors import PenstockError
from schemas.keys import Caller
from schemas.pages import Page
from schemas.purges import Preview, Purge
from schemas.store import audit, overviews, purges
from schemas.store.db import Database


class Purging:
    """Previews, asks for and reads purges."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def preview(self, days: int) -> Preview:
        """Say what a purge would delete now."""
        return await purges.preview(self._db, days, await overviews.sizes(self._db))

    async def ask(self, days: int, caller: Caller) -> Purge:
        """Ask for a purge; a runner begins with it within about a second."""
        async with self._db.transaction() as transaction:
            purge_id = await purges.create(transaction, days, requested_by=caller.name)
            if purge_id is None:  # only an automatic one can be there already
                raise PenstockError("The purge was not written.")
            await audit.record(transaction, caller, Action.PURGE_CREATE, f"purge:{purge_id}", {"days": days})
        return await purges.get(self._db, purge_id)

    async def get(self, purge_id: uuid.UUID) -> Purge:
        """Read a purge; raises NotFound."""
        return await purges.get(self._db, purge_id)

    async def list_page(self, page: Page) -> list[Purge]:
        """Read the newest purges."""
        return await purges.list_page(self._db, page.before_id, limit=page.limit + 1)
