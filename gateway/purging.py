"""Asking for purges, and looking at them; the runners' housekeeping does the work."""

import uuid

from schemas.errors import PenstockError
from schemas.pages import Page
from schemas.purges import Preview, Purge
from schemas.store import overviews, purges
from schemas.store.db import Database


class Purging:
    """Previews, asks for and reads purges."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def preview(self, days: int) -> Preview:
        """Say what a purge would delete now."""
        return await purges.preview(self._db, days, await overviews.sizes(self._db))

    async def ask(self, days: int, *, requested_by: str) -> Purge:
        """Ask for a purge; a runner begins with it within about a second."""
        purge_id = await purges.create(self._db, days, requested_by=requested_by)
        if purge_id is None:  # only an automatic one can be there already
            raise PenstockError("The purge was not written.")
        return await purges.get(self._db, purge_id)

    async def get(self, purge_id: uuid.UUID) -> Purge:
        """Read a purge; raises NotFound."""
        return await purges.get(self._db, purge_id)

    async def list_page(self, page: Page) -> list[Purge]:
        """Read the newest purges."""
        return await purges.list_page(self._db, page.before_id, limit=page.limit + 1)
