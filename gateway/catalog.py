"""What operators set up: pipelines' pauses, schedules, tokens, links and API keys."""

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec

from gateway import clocks, credentials, params, sources
from gateway.rules import Rules
from gateway.urls import Urls
from schemas.audit import Action
from schemas.errors import FieldError, Invalid, NotFound
from schemas.ids import new_id
from schemas.keys import Caller, Key, NewKey, ShownKey
from schemas.pages import Counted, Page, Span
from schemas.pipelines import Pipeline, PipelineFilter, PipelinePatch
from schemas.schedules import (
    ImportedToken,
    Link,
    NewLink,
    NewSchedule,
    NewToken,
    Rotation,
    Schedule,
    ScheduleFilter,
    ScheduleName,
    SchedulePatch,
    ShownToken,
    SourceConfig,
    Token,
)
from schemas.store import audit, keys, links, pipelines, schedules, tokens
from schemas.store.db import Database, Db


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
        """Read pipelines by id."""
        found = await pipelines.list_page(self._db, page.after_text, q=q, limit=page.limit + 1)
        return [pipeline.masked() for pipeline in found]

    async def get_pipeline(self, pipeline_id: str) -> Pipeline:
        """Read one pipeline; raises NotFound."""
        return (await pipelines.get(self._db, pipeline_id)).masked()

    async def span_pipelines(
        self,
        span: Span,
        *,
        q: str | None = None,
        which: PipelineFilter | None = None,
        backwards: bool = False,
    ) -> Counted[Pipeline]:
        """Read a part of the pipelines by id, and how many there are."""
        found = await pipelines.list_span(self._db, span, q=q, which=which or PipelineFilter(), backwards=backwards)
        return Counted([pipeline.masked() for pipeline in found.items], found.total)

    async def find_pipeline(self, spellings: Sequence[str]) -> Pipeline:
        """Read the first pipeline that is spelled like this; raises NotFound."""
        return (await pipelines.first_of(self._db, spellings)).masked()

    async def patch_pipeline(self, pipeline_id: str, patch: PipelinePatch, caller: Caller) -> Pipeline:
        """Change what the patch names; raises NotFound or Invalid."""
        given = _given(patch)
        async with self._db.transaction() as transaction:
            old = await pipelines.lock(transaction, pipeline_id)
            if "notify" in given:
                given["notify"] = given["notify"].unmasked(old.notify)
            updated = await pipelines.update(transaction, msgspec.structs.replace(old, **given))
            if given:
                await audit.record(
                    transaction, caller, _change_of("pipeline", given), f"pipeline:{old.id}", _shown(given)
                )
        await self._changed()
        return updated.masked()

    async def create_schedule(self, new: NewSchedule, caller: Caller) -> Schedule:
        """Write a new schedule, with its clock; raises Invalid when its pipeline or source does not exist."""
        clocks.check_new(new)
        new.notify.unmasked()
        new.source_config.unmasked()
        _check_source(new.source, new.source_config, split=new.split)
        try:
            pipeline = await pipelines.get(self._db, new.pipeline_id)
        except NotFound as error:
            raise Invalid(
                f"There is no pipeline {new.pipeline_id!r}: `penstock pipelines ls` shows which there are.",
                errors=(FieldError("/pipeline_id", error.message),),
            ) from None
        params.check(new.variables, pipeline)
        Rules.of(new).check(pipeline.params_schema)
        async with self._db.transaction() as transaction:
            schedule = await clocks.start(transaction, await schedules.create(transaction, new))
            details = {"pipeline_id": new.pipeline_id, "name": new.name, "kind": new.kind, "source": new.source}
            await audit.record(transaction, caller, Action.SCHEDULE_CREATE, f"schedule:{schedule.id}", details)
        return schedule.masked()

    async def list_schedules(
        self, page: Page, *, pipeline_id: str | None, source: str | None, q: str | None
    ) -> list[Schedule]:
        """Read the newest schedules."""
        found = await schedules.list_page(
            self._db, page.before_id, pipeline_id=pipeline_id, source=source, q=q, limit=page.limit + 1
        )
        return [schedule.masked() for schedule in found]

    async def span_schedules(self, span: Span, which: ScheduleFilter) -> Counted[Schedule]:
        """Read a part of the schedules that match, the newest first, and how many do."""
        found = await schedules.list_span(self._db, span, which)
        return Counted([schedule.masked() for schedule in found.items], found.total)

    async def schedule_names(self, schedule_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, ScheduleName]:
        """Read what these schedules are called, also those that are deleted."""
        return await schedules.names(self._db, schedule_ids)

    async def get_schedule(self, key: str) -> Schedule:
        """Read a schedule by id or number; raises NotFound."""
        return (await schedules.get(self._db, key)).masked()

    async def time_schedules(self, pipeline_ids: Sequence[str]) -> dict[str, Schedule]:
        """Read the oldest schedule of kind time of each of these pipelines: elsewhere a pipeline has just one."""
        found = await schedules.timed_of_pipelines(self._db, pipeline_ids)
        return {pipeline_id: schedule.masked() for pipeline_id, schedule in found.items()}

    async def patch_schedule(self, key: str, patch: SchedulePatch, caller: Caller) -> Schedule:
        """Change what the patch names; raises NotFound or Invalid."""
        given = _given(patch)
        async with self._db.transaction() as transaction:
            old = await schedules.lock(transaction, key)
            given = clocks.check_patch(old, given)
            for name in given.keys() & {"notify", "source_config"}:
                given[name] = given[name].unmasked(getattr(old, name))
            if "variables" in given:
                params.check(given["variables"], await pipelines.get(transaction, old.pipeline_id))
                given["variables"] = msgspec.Raw(msgspec.json.encode(given["variables"]))
            changed = msgspec.structs.replace(old, **given)
            _check_source(changed.source, changed.source_config, split=changed.split)
            clocks.check_changed(changed)
            if given.keys() & {"filter", "mapping", "dedupe"}:
                pipeline = await pipelines.get(transaction, old.pipeline_id)
                Rules.of(changed).check(pipeline.params_schema)
            updated = await clocks.restart(transaction, old, await schedules.update(transaction, changed))
            if given:
                await audit.record(
                    transaction, caller, _change_of("schedule", given), f"schedule:{old.id}", _shown(given)
                )
        await self._changed()
        return updated.masked()

    async def delete_schedule(self, key: str, caller: Caller) -> None:
        """End a schedule with its tokens and links; raises NotFound."""
        async with self._db.transaction() as transaction:
            schedule = await schedules.lock(transaction, key)
            await schedules.delete(transaction, schedule.id)
            details = {"pipeline_id": schedule.pipeline_id, "name": schedule.name}
            await audit.record(transaction, caller, Action.SCHEDULE_DELETE, f"schedule:{schedule.id}", details)
        await self._changed()

    async def create_token(self, key: str, new: NewToken, caller: Caller) -> ShownToken:
        """Make a token for a schedule; raises NotFound or Conflict. Only this answer shows it."""
        schedule = await schedules.get(self._db, key)
        clocks.must_take_calls(schedule)
        async with self._db.transaction() as transaction:
            shown = await self._mint(transaction, schedule.id, label=new.label, expires_at=new.expires_at)
            details = {"schedule_id": schedule.id, "label": new.label, "expires_at": new.expires_at}
            await audit.record(transaction, caller, Action.TOKEN_CREATE, f"token:{shown.id}", details)
        return shown

    async def import_token(self, key: str, new: ImportedToken, caller: Caller) -> Token:
        """Let a token that a sender already has fire a schedule; raises NotFound or Conflict. Again is harmless."""
        schedule = await schedules.get(self._db, key)
        clocks.must_take_calls(schedule)
        async with self._db.transaction() as transaction:
            token, is_new = await tokens.import_(transaction, new_id(), schedule_id=schedule.id, new=new)
            if is_new:
                details = {"schedule_id": schedule.id, "label": new.label}
                await audit.record(transaction, caller, Action.TOKEN_IMPORT, f"token:{token.id}", details)
        await self._changed()
        return token

    async def list_tokens(self, key: str) -> list[Token]:
        """Read the tokens of a schedule, without themselves; raises NotFound."""
        return await tokens.list_of(self._db, (await schedules.get(self._db, key)).id)

    async def rotate_token(self, token_id: uuid.UUID, rotation: Rotation, caller: Caller) -> ShownToken:
        """Make a token beside an old one, which ends after its grace; raises NotFound or Invalid."""
        old = await tokens.get(self._db, token_id)
        if old.revoked_at is not None:
            raise Invalid("This token is revoked; make a new one instead.")
        async with self._db.transaction() as transaction:
            shown = await self._mint(transaction, old.schedule_id, label=old.label, expires_at=None)
            await tokens.expire_after(transaction, token_id, rotation.grace_s)
            details = {"schedule_id": old.schedule_id, "grace_s": rotation.grace_s, "new_token_id": shown.id}
            await audit.record(transaction, caller, Action.TOKEN_ROTATE, f"token:{token_id}", details)
        await self._changed()
        return shown

    async def revoke_token(self, token_id: uuid.UUID, caller: Caller) -> None:
        """End a token now; raises NotFound."""
        async with self._db.transaction() as transaction:
            await tokens.revoke(transaction, token_id)
            await audit.record(transaction, caller, Action.TOKEN_REVOKE, f"token:{token_id}", {})
        await self._changed()

    async def create_link(self, key: str, new: NewLink, caller: Caller) -> Link:
        """Make a signed link for a schedule; raises NotFound, or Invalid when no keys to sign with are set."""
        if self._signer is None:
            raise Invalid("Links are signed: set PENSTOCK_SECRET_KEYS, the same for every gateway, and start again.")
        schedule = await schedules.get(self._db, key)
        clocks.must_take_calls(schedule)
        merged = msgspec.json.decode(schedule.variables, type=dict[str, Any]) | new.variables
        params.check(merged, await pipelines.get(self._db, schedule.pipeline_id))
        link_id = new_id()
        async with self._db.transaction() as transaction:
            expires_at = await links.create(transaction, link_id, schedule_id=schedule.id, new=new)
            details = {"schedule_id": schedule.id, "expires_at": expires_at, "max_uses": new.max_uses}
            await audit.record(transaction, caller, Action.LINK_CREATE, f"link:{link_id}", details)
        url = self._urls.hook(schedule.id, self._signer.sign(link_id))
        return Link(id=link_id, url=url, expires_at=expires_at, max_uses=new.max_uses, variables=new.variables)

    async def create_key(self, new: NewKey, caller: Caller) -> ShownKey:
        """Make an API key. The answer is the only place where it is shown."""
        secret = credentials.new_key()
        async with self._db.transaction() as transaction:
            key = await keys.create(
                transaction,
                new_id(),
                name=new.name,
                role=new.role,
                digest=credentials.digest(secret),
                hint=credentials.hint(secret),
            )
            details = {"name": key.name, "role": key.role}
            await audit.record(transaction, caller, Action.KEY_CREATE, f"key:{key.id}", details)
        return ShownKey(id=key.id, key=secret, name=key.name, role=key.role)

    async def list_keys(self) -> list[Key]:
        """Read all API keys, without themselves."""
        return await keys.list_all(self._db)

    async def revoke_key(self, key_id: uuid.UUID, caller: Caller) -> None:
        """End an API key now; raises NotFound."""
        async with self._db.transaction() as transaction:
            await keys.revoke(transaction, key_id)
            await audit.record(transaction, caller, Action.KEY_REVOKE, f"key:{key_id}", {})
        await self._changed()

    async def _mint(self, db: Db, schedule_id: uuid.UUID, *, label: str, expires_at: dt.datetime | None) -> ShownToken:
        secret = credentials.new_token()
        token = await tokens.create(
            db,
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


def _change_of(kind: str, given: dict[str, Any]) -> Action:
    if "is_paused" not in given:
        return Action(f"{kind}.change")
    return Action(f"{kind}.pause" if given["is_paused"] else f"{kind}.unpause")


def _shown(given: dict[str, Any]) -> dict[str, Any]:
    """Hide the secrets of a patch."""
    return given | {name: given[name].masked() for name in given.keys() & {"notify", "source_config"}}


def _check_source(name: str, config: SourceConfig, *, split: bool) -> None:
    source = sources.discover().get(name)
    if source is None:
        known = ", ".join(sorted(sources.discover()))
        raise Invalid(
            f"There is no source {name!r}; there are {known}.", errors=(FieldError("/source", f"one of {known}"),)
        )
    if split and source.split is None:
        raise Invalid(errors=(FieldError("/split", f"a delivery of {source.title} carries one thing only"),))
    ways = [scheme.needs for scheme in source.schemes]
    given = {field for field in config.__struct_fields__ if getattr(config, field) and field != "mode"}
    known_fields = {field for scheme in source.schemes for field in (*scheme.needs, *scheme.takes)} | set(source.takes)
    if unknown := sorted(given - known_fields):
        errors = tuple(FieldError(f"/source_config/{field}", f"source {name} does not take it") for field in unknown)
        raise Invalid(errors=errors)
    if ways and not (source.is_optional and not given) and not any(given.issuperset(needs) for needs in ways):
        errors = tuple(FieldError(f"/source_config/{field}", "is missing") for field in dict.fromkeys(sum(ways, ())))
        raise Invalid(f"Source {name} signs what it sends: give what you set there.", errors=errors)
    if source.check:
        source.check(config)
