"""Reading back what was delivered, and what became of it."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Literal

import msgspec

from gateway import delivery_ids
from schemas import payload
from schemas.errors import Conflict, NotFound, Unavailable
from schemas.events import (
    BodyPreview,
    CausedRun,
    Event,
    EventBody,
    EventFilter,
    InspectedEvent,
    ListedEvent,
    Oldest,
)
from schemas.objects import ObjectStore
from schemas.pages import Found, Page
from schemas.payload import Kind
from schemas.states import Verdict
from schemas.store import events
from schemas.store.db import Database

LISTED_RUNS = 20
INSPECTED_RUNS = 1000
LARGEST_JSON = 64 << 10
TEXT_BYTES = 16 << 10
HEX_BYTES = 1 << 10


class Inspector:
    """Reads events; of what was refused at the gate there is a sample."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def list_page(self, page: Page, which: EventFilter) -> Found[ListedEvent]:
        """Find the newest events, without their bodies."""
        found = await events.list_page(self._db, page.before_id, which, keys=_keys(which), limit=page.limit + 1)
        ids = [event.id for event in found.items]
        runs = await events.runs_caused(self._db, ids, limit=LISTED_RUNS + 1) if ids else {}
        replays = await events.count_replays(self._db, ids) if ids else {}
        return Found(
            [_listed(event, runs.get(event.id, []), replays.get(event.id, 0)) for event in found.items],
            found.stopped_at,
        )

    async def count(self, which: EventFilter, *, end: uuid.UUID) -> tuple[dict[Verdict, int], bool]:
        """Count the events before `end` by their verdicts; the other result is False when there may be more."""
        return await events.count(self._db, which, keys=_keys(which), end=end)

    async def find_oldest(self, which: EventFilter, *, after: uuid.UUID, end: uuid.UUID, limit: int) -> Oldest:
        """Find the oldest events between two ids, looking at so many candidates and no more."""
        return await events.find_oldest(self._db, which, keys=_keys(which), after=after, end=end, limit=limit)

    async def get(self, event_id: uuid.UUID) -> Event:
        """Read one event; raises NotFound."""
        return await events.get(self._db, event_id)

    async def of_ids(self, event_ids: Sequence[uuid.UUID]) -> list[Event]:
        """Read events, the oldest first; those that are gone are left out."""
        return (await events.of_ids(self._db, event_ids))[::-1]

    async def inspect(self, event_id: uuid.UUID) -> InspectedEvent:
        """Read all that is known of one event; raises NotFound."""
        event = await events.get(self._db, event_id)
        stored = await self._beginning(event_id)
        runs = await events.runs_of(self._db, event_id, limit=INSPECTED_RUNS + 1)
        replays = await events.count_replays(self._db, [event_id])
        return InspectedEvent(
            runs=runs[:INSPECTED_RUNS],
            has_more_runs=len(runs) > INSPECTED_RUNS,
            replays=replays.get(event_id, 0),
            duplicates=await events.duplicates(self._db, event_id),
            body_preview=preview(stored),
            rules=None if event.rules_id is None else await events.rules(self._db, event.rules_id),
            **msgspec.structs.asdict(event),
        )

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

    async def _beginning(self, event_id: uuid.UUID) -> EventBody:
        """Read enough of a body to show what it begins with; nothing when the object store has or gives nothing."""
        found = await events.body(self._db, event_id)
        if found.object is None:
            return found
        read = b""
        with suppress(NotFound, Unavailable):
            async with aclosing(self._store.stream(found.object)) as pieces:
                async for piece in pieces:
                    read += piece
                    if len(read) >= TEXT_BYTES:
                        break
        return msgspec.structs.replace(found, body=read, is_whole=False)


def preview(stored: EventBody) -> BodyPreview:
    """Show what a body begins with, by what it is and not by what it is declared to be."""
    body = stored.body
    if not body:
        return _preview("none", None, is_all=stored.is_whole)
    if len(body) < LARGEST_JSON and payload.classify(body, "") is Kind.JSON:
        return BodyPreview(format="json", value=msgspec.Raw(body), truncated=not stored.is_whole)
    beginning = body[:TEXT_BYTES]
    is_all = stored.is_whole and len(beginning) == len(body)
    text = _decoded(beginning, is_cut=not is_all)
    if text is not None:
        return _preview("text", text, is_all=is_all)
    shown = body[:HEX_BYTES]
    return _preview("hex", shown.hex(), is_all=stored.is_whole and len(shown) == len(body))


def _preview(kind: Literal["text", "hex", "none"], value: str | None, *, is_all: bool) -> BodyPreview:
    return BodyPreview(format=kind, value=msgspec.Raw(msgspec.json.encode(value)), truncated=not is_all)


def _decoded(beginning: bytes, *, is_cut: bool) -> str | None:
    """Decode UTF-8 of which the last character may be cut; None when it is something else, also with a NUL."""
    try:
        text = beginning.decode()
    except UnicodeDecodeError as error:
        if not is_cut or error.reason != "unexpected end of data":
            return None
        text = beginning[: error.start].decode()
    return None if "\0" in text else text


def _listed(event: Event, runs: list[CausedRun], replays: int) -> ListedEvent:
    return ListedEvent(
        runs=runs[:LISTED_RUNS],
        has_more_runs=len(runs) > LISTED_RUNS,
        replays=replays,
        **msgspec.structs.asdict(event),
    )


def _keys(which: EventFilter) -> list[str]:
    return [] if which.dedupe_key is None else delivery_ids.spellings(which.dedupe_key)


async def _pieces(first: bytes, rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    yield first
    if rest is not None:
        async for piece in rest:
            yield piece
