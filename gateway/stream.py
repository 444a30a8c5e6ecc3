"""Server-Sent Events: `/v1/runs/{id}/stream` for one run, `/v1/stream?topics=` for many."""

from collections.abc import AsyncIterator

from litestar import get
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from gateway.tail import Cursor
from gateway.topics import Wanted, wanted_by
from schemas.errors import Invalid
from schemas.states import Role

_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@get("/v1/runs/{run_id:str}/stream", guards=[needs(Role.VIEWER)], media_type="text/event-stream")
async def run_stream(run_id: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Follow one run: its history after `Last-Event-ID`, what happens, then `end`. Ids are dense."""
    found = await core.runs.find(run_id)
    return _stream(core.feed.watch(found, after=_seq(request.headers.get("last-event-id"))))


@get("/v1/stream", guards=[needs(Role.VIEWER)], media_type="text/event-stream")
async def stream(request: AnyRequest, core: TheCore, topics: FromQuery[str] = "runs") -> Stream:
    """Follow topics, separated by commas: `runs`, `run:ID`, `pipeline:ID`, `schedule:ID`, `logs:ID`, `events`."""
    wanted = _any_of([wanted_by(topic.strip()) for topic in topics.split(",")])
    last = request.headers.get("last-event-id")
    after = Cursor.parse(last) if last else None
    await core.tail.begin()
    return _stream(core.tail.watch(wanted, after=after))


def _stream(chunks: AsyncIterator[bytes]) -> Stream:
    return Stream(chunks, media_type="text/event-stream", headers=_HEADERS)


def _seq(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit()):
        raise Invalid("The Last-Event-ID of a run's stream is a number.")
    return min(int(last_event_id[:20]), 2**31 - 1)


def _any_of(tests: list[Wanted]) -> Wanted:
    return lambda change: any(test(change) for test in tests)
