"""Where outside systems knock: one POST is one delivery, and a 2xx means that it is committed."""

import msgspec
from litestar import HttpMethod, Response, post, route
from litestar.exceptions import MethodNotAllowedException
from litestar.params import FromPath

from gateway.arrivals import read_arrival
from gateway.core import Core
from gateway.handling import AnyRequest, TheCore
from gateway.ingest import Arrival, Outcome
from gateway.prefer import wait_s
from gateway.rules import Finding
from gateway.sources import Reply
from schemas.runs import RunRef

_GREETINGS = [HttpMethod.GET, HttpMethod.HEAD, HttpMethod.OPTIONS]
_STATUS = {"accepted": 202, "duplicate": 200, "ignored": 200}
_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, omit_defaults=True):
    """What a sender is told."""

    event_id: str | None
    status: str
    runs: list[RunRef]
    reason: str | None = None
    dry_run: bool = False
    steps: list[Finding] | None = None


_ANSWERS = {
    202: (Answer, "Accepted: event and runs are committed"),
    200: (Answer, "A duplicate, ignored, or, after `Prefer: wait`, ended"),
}


@post("/hooks/{schedule:str}/{token:str}", opt={"answers": _ANSWERS})
async def hook_with_token(
    schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[bytes]:
    """Take a delivery whose URL carries the token or the signed link."""
    return await _take(read_arrival(request, core, schedule, token), core)


@post("/hooks/{schedule:str}", opt={"answers": _ANSWERS})
async def hook_with_header(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Take a delivery whose token is a Bearer, a Basic password, `X-Penstock-Token` or in the query."""
    return await _take(read_arrival(request, core, schedule, None), core)


@route("/hooks/{schedule:str}/{token:str}", http_method=_GREETINGS, include_in_schema=False)
async def greeting_with_token(
    schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[bytes]:
    """Answer a challenge or probe at a URL that carries the token."""
    return await _greet(read_arrival(request, core, schedule, token), core)


@route("/hooks/{schedule:str}", http_method=_GREETINGS, include_in_schema=False)
async def greeting_with_header(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Answer a challenge or probe whose token comes besides the path."""
    return await _greet(read_arrival(request, core, schedule, None), core)


async def _take(arrival: Arrival, core: Core) -> Response[bytes]:
    outcome = await core.ingest.deliver(arrival)
    if outcome.runs and (seconds := wait_s(arrival.headers.get("prefer", ""))):
        outcome = await core.ingest.wait(outcome, seconds)
    return _answer(outcome)


async def _greet(arrival: Arrival, core: Core) -> Response[bytes]:
    found = await core.ingest.greet(arrival)
    if found is None:
        raise MethodNotAllowedException(headers={"allow": "POST"})
    return _answer(found) if isinstance(found, Outcome) else _reply(found)


def _reply(reply: Reply) -> Response[bytes]:
    return Response(
        reply.body, status_code=reply.status, media_type=reply.content_type, headers=dict(reply.headers) or None
    )


def _answer(outcome: Outcome) -> Response[bytes]:
    if outcome.reply is not None:
        return _reply(outcome.reply)
    answer = Answer(
        event_id=str(outcome.event_id) if outcome.event_id else None,
        status=outcome.status,
        runs=list(outcome.runs),
        reason=outcome.reason,
        dry_run=outcome.explanation is not None,
        steps=outcome.explanation,
    )
    return Response(
        _encode(answer),
        status_code=200 if answer.dry_run or outcome.has_ended else _STATUS[outcome.status],
        media_type="application/json",
        headers={"location": outcome.runs[0].url} if outcome.runs else None,
    )
