"""What callers see of callbacks, and the answers that blocks wait for."""

import uuid
from urllib.parse import urlsplit

from msgspec import UnsetType

from gateway import credentials
from schemas import payload
from schemas.callbacks import Callback, CallbackState, SigningSecret, ToldCallback, mask
from schemas.changes import Channels
from schemas.errors import FieldError, Invalid, NotFound
from schemas.notify import Notify
from schemas.pages import Page
from schemas.queue import Doorbell
from schemas.signatures import require_keys, shown_secret, signing_keys
from schemas.store import callbacks, runs, signals
from schemas.store.db import Database

NO_SUCH_CALLBACK = "There is nothing here."


class Callbacks:
    """Reads and resends callbacks, and takes answers; runners deliver."""

    def __init__(self, db: Database, doorbell: Doorbell, *, channels: Channels, secret_keys: str) -> None:
        self._db = db
        self._doorbell = doorbell
        self._channels = channels
        self._keys = signing_keys(secret_keys)

    async def list_page(self, page: Page, *, run_id: uuid.UUID | None, state: CallbackState | None) -> list[Callback]:
        """Read the newest callbacks, without secrets in their targets."""
        found = await callbacks.list_page(self._db, page.before_id, run_id=run_id, state=state, limit=page.limit + 1)
        return [mask(callback) for callback in found]

    async def get(self, callback_id: uuid.UUID) -> ToldCallback:
        """Read a callback with its attempts; raises NotFound."""
        return mask(await callbacks.get(self._db, callback_id))

    async def resend(self, callback_id: uuid.UUID) -> ToldCallback:
        """Deliver again, now, under the same id; raises NotFound."""
        await callbacks.resend(self._db, callback_id)
        await self._doorbell.announce(self._channels.callbacks)
        return await self.get(callback_id)

    def signing_secrets(self) -> list[SigningSecret]:
        """Show what receivers verify with, the newest first."""
        return [SigningSecret(shown_secret(key)) for key in self._keys]

    def check(self, url: str | None, pointer: str) -> None:
        """Raise Invalid that points at the field `pointer` when this cannot be the URL of callbacks."""
        if url is None:
            return
        require_keys(self._keys, pointer)
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if not host:
            raise Invalid("This is no URL.", errors=(FieldError(pointer, "it is not an http or https URL"),))

    def check_notify(self, notify: Notify | UnsetType) -> None:
        """Raise Invalid when the callback URL in there cannot be one."""
        if isinstance(notify, Notify):
            self.check(notify.callback_url, "/notify/callback_url")

    async def parent(self, key: str | None) -> uuid.UUID | None:
        """Find the run that triggers another one, as its header says; None if it is a run of another installation."""
        try:
            return None if key is None else await runs.find_id(self._db, key)
        except NotFound:
            return None

    async def receive(self, run_key: str, token: str, body: bytes, content_type: str) -> bool:
        """Take the answer that a block waits for; false when there is one already.

        Raises NotFound, the same for everything that does not fit, Malformed.
        """
        try:
            run_id = uuid.UUID(run_key)
        except ValueError:
            raise NotFound(NO_SUCH_CALLBACK) from None
        kind = payload.classify(body, content_type)
        answer = payload.as_json(kind, body, content_type=content_type, url="")
        is_first = await signals.receive(self._db, credentials.digest(token), run_id, answer)
        if is_first is None:
            raise NotFound(NO_SUCH_CALLBACK)
        await self._doorbell.announce(self._channels.signals, [run_id])
        return is_first
