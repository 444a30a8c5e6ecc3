"""Reading what people did."""

import datetime as dt

import msgspec

from schemas.audit import Action, AuditEntry
from schemas.pages import Page
from schemas.store import audit
from schemas.store.db import Database


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a list shows; `caller` is the name of a key."""

    subject: str | None = None
    action: Action | None = None
    caller: str | None = None
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None


class Audit:
    """Reads the entries that are written together with each change."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_page(self, page: Page, which: AuditFilter) -> list[AuditEntry]:
        """Read the newest entries."""
        return await audit.list_page(self._db, page.before_id, **msgspec.structs.asdict(which), limit=page.limit + 1)
