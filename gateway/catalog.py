"""What operators set up: pipelines' pauses, schedules, tokens, links and API keys."""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway import clocks, credentials, params, sources
from gateway.urls import Urls
from schemas.errors import FieldError, Invalid, NotFound
from schemas.ids import new_id
from schemas.keys import Key, NewKey, ShownKey
from schemas.pages import Page
from schemas.pipelines import Pipeline, PipelinePatch
from schemas.schedules import (
    Link,
    NewLink,
    NewSchedule,
    NewToken,
    Rotation,
    Schedule,
    SchedulePatch,
    ShownToken,
    SourceConfig,
    Token,
)
from schemas.store import keys, links, pipelines, schedules, tokens
from schemas.store.db import Database


class Catalog:
    """Reads and changes what is set up; every change is told to all gateways."""

    def __init__(
        self,
        db: Database,
        *,
        urls: Urls,
        signer: credentials.LinkSigner | None,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._db = db
        self._urls = urls
        self._signer = signer
        self._changed = changed

    async def list_pipelines(self, page: Page, *, q: str | None) -> list[Pipeline]:
        """Read pipelines by name."""
        return await pipelines.list_page(self._db, page.after_text, q=q, limit=page.limit + 1)

    async def get_pipeline(self, pipeline_id: str) -> Pipeline:
        """Read one pipeline; raises NotFound."""
        return await pipelines.get(self._db, pipeline_id)

    async def patch_pipeline(self, pipeline_id: str, patch: PipelinePatch) -> Pipeline:
        """Change what the patch names; raises NotFound."""
        old = await pipelines.get(self._db, pipeline_id)
        updated = await pipelines.update(self._db, msgspec.structs.replace(old, **_given(patch)))
        await self._changed()
        return updated

    async def create_schedule(self, new: NewSchedule) -> Schedule:
        """Write a new schedule, with its clock; raises Invalid when its pipeline or source does not exist."""
        clocks.check_new(new)
        _check_source(new.source, new.source_config)
        try:
            params.check(new.variables, await pipelines.get(self._db, new.pipeline_id))
        except NotFound as error:
            raise Invalid(
                f"There is no pipeline {new.pipeline_id!r}: `penstock pipelines ls` shows which there are.",
                errors=(FieldError("/pipeline_id", error.message),),
            ) from None
        async with self._db.transaction() as transaction:
            schedule = await clocks.start(transaction, await schedules.create(transaction, new))
        return schedule.masked()

    async def list_schedules(
        self, page: Page, *, pipeline_id: str | None, source: str | None, q: str | None
    ) -> list[Schedule]:
        """Read the newest schedules."""
        found = await schedules.list_page(
            self._db, page.before_id, pipeline_id=pipeline_id, source=source, q=q, limit=page.limit + 1
        )
        return [schedule.masked() for schedule in found]

    async def get_schedule(self, key: str) -> Schedule:
        """Read a schedule by id or number; raises NotFound."""
        return (await schedules.get(self._db, key)).masked()

    async def patch_schedule(self, key: str, patch: SchedulePatch) -> Schedule:
        """Change what the patch names; raises NotFound or Invalid."""
        old = await schedules.get(self._db, key)
        given = clocks.check_patch(old, _given(patch))
        if "variables" in given:
            params.check(given["variables"], await pipelines.get(self._db, old.pipeline_id))
            given["variables"] = msgspec.Raw(msgspec.json.encode(given["variables"]))
        changed = msgspec.structs.replace(old, **given)
        _check_source(changed.source, changed.source_config)
        clocks.check_changed(changed)
        async with self._db.transaction() as transaction:
            updated = await clocks.restart(transaction, old, await schedules.update(transaction, changed))
        await self._changed()
        return updated.masked()

    async def delete_schedule(self, key: str) -> None:
        """End a schedule with its tokens and links; raises NotFound."""
        schedule = await schedules.get(self._db, key)
        await schedules.delete(self._db, schedule.id)
        await self._changed()

    async def create_token(self, key: str, new: NewToken) -> ShownToken:
        """Make a token for a schedule; raises NotFound or Conflict. Only this answer shows it."""
        schedule = await schedules.get(self._db, key)
        clocks.must_take_calls(schedule)
        return await self._mint(schedule.id, label=new.label, expires_at=new.expires_at)

    async def list_tokens(self, key: str) -> list[Token]:
        """Read the tokens of a schedule, without themselves; raises NotFound."""
        return await tokens.list_of(self._db, (await schedules.get(self._db, key)).id)

    async def rotate_token(self, token_id: uuid.UUID, rotation: Rotation) -> ShownToken:
        """Make a token beside an old one, which ends after its grace; raises NotFound or Invalid."""
        old = await tokens.get(self._db, token_id)
        if old.revoked_at is not None:
            raise Invalid("This token is revoked; make a new one instead.")
        shown = await self._mint(old.schedule_id, label=old.label, expires_at=None)
        await tokens.expire_after(self._db, token_id, rotation.grace_s)
        await self._changed()
        return shown

    async def revoke_token(self, token_id: uuid.UUID) -> None:
        """End a token now; raises NotFound."""
        await tokens.revoke(self._db, token_id)
        await self._changed()

    async def create_link(self, key: str, new: NewLink) -> Link:
        """Make a signed link for a schedule; raises NotFound, or Invalid when no keys to sign with are set."""
        if self._signer is None:
            raise Invalid("Links are signed: set PENSTOCK_SECRET_KEYS, the same for every gateway, and start again.")
        schedule = await schedules.get(self._db, key)
        clocks.must_take_calls(schedule)
        merged = msgspec.json.decode(schedule.variables, type=dict[str, Any]) | new.variables
        params.check(merged, await pipelines.get(self._db, schedule.pipeline_id))
        link_id = new_id()
        expires_at = await links.create(self._db, link_id, schedule_id=schedule.id, new=new)
        url = self._urls.hook(schedule.id, self._signer.sign(link_id))
        return Link(id=link_id, url=url, expires_at=expires_at, max_uses=new.max_uses, variables=new.variables)

    async def create_key(self, new: NewKey) -> ShownKey:
        """Make an API key. The answer is the only place where it is shown."""
        secret = credentials.new_key()
        key = await keys.create(
            self._db,
            new_id(),
            name=new.name,
            role=new.role,
            digest=credentials.digest(secret),
            hint=credentials.hint(secret),
        )
        return ShownKey(id=key.id, key=secret, name=key.name, role=key.role)

    async def list_keys(self) -> list[Key]:
        """Read all API keys, without themselves."""
        return await keys.list_all(self._db)

    async def revoke_key(self, key_id: uuid.UUID) -> None:
        """End an API key now; raises NotFound."""
        await keys.revoke(self._db, key_id)
        await self._changed()

    async def _mint(self, schedule_id: uuid.UUID, *, label: str, expires_at: dt.datetime | None) -> ShownToken:
        secret = credentials.new_token()
        token = await tokens.create(
            self._db,
            new_id(),
            schedule_id=schedule_id,
            digest=credentials.digest(secret),
            hint=credentials.hint(secret),
            label=label,
            expires_at=expires_at,
        )
        url = self._urls.hook(schedule_id, secret)
        return ShownToken(id=token.id, token=secret, url=url, label=label, expires_at=expires_at)


def _given(patch: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that a patch names."""
    given = {name: getattr(patch, name) for name in patch.__struct_fields__}
    return {name: value for name, value in given.items() if value is not msgspec.UNSET}


def _check_source(name: str, config: SourceConfig) -> None:
    source = sources.discover().get(name)
    if source is None:
        known = ", ".join(sorted(sources.discover()))
        raise Invalid(
            f"There is no source {name!r}; there are {known}.", errors=(FieldError("/source", f"one of {known}"),)
        )
    if source.needs_secret and not config.secrets:
        raise Invalid(
            f"Source {name} signs what it sends: give the secret that you set there.",
            errors=(FieldError("/source_config/secrets", "at least one secret"),),
        )
