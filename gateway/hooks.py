"""Where outside systems knock: one POST is one delivery, and a 2xx means that it is committed."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec
from litestar import HttpMethod, Response, post, route
from litestar.exceptions import MethodNotAllowedException
from litestar.params import FromPath

from gateway.bodies import read_body
from gateway.core import Core
from gateway.handling import AnyRequest, TheCore
from gateway.ingest import NO_SUCH_HOOK, Arrival, Outcome
from gateway.intake import header_map
from gateway.prefer import wait_s
from gateway.rules import Finding
from gateway.sources import Reply
from schemas.errors import NotFound
from schemas.runs import RunRef

TOKEN_HEADER = "x-penstock-token"  # noqa: S105 - a header's name
TOKEN_PARAMETER = "access_token"  # noqa: S105 - RFC 6750, section 2.3, which CloudEvents' Webhook specification asks for
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
    return await _take(_arrival(request, core, schedule, token), core)


@post("/hooks/{schedule:str}", opt={"answers": _ANSWERS})
async def hook_with_header(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Take a delivery whose token is a Bearer, a Basic password, `X-Penstock-Token` or in the query."""
    return await _take(_arrival(request, core, schedule, None), core)


@route("/hooks/{schedule:str}/{token:str}", http_method=_GREETINGS, include_in_schema=False)
async def greeting_with_token(
    schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[bytes]:
    """Answer a challenge or probe at a URL that carries the token."""
    return await _greet(_arrival(request, core, schedule, token), core)


@route("/hooks/{schedule:str}", http_method=_GREETINGS, include_in_schema=False)
async def greeting_with_header(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Answer a challenge or probe whose token comes besides the path."""
    return await _greet(_arrival(request, core, schedule, None), core)


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


def _arrival(request: AnyRequest, core: Core, schedule: str, token: str | None) -> Arrival:
    scope = request.scope
    headers = header_map(scope["headers"])
    query_string = scope["query_string"]
    query = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}

    async def read(limit: int) -> bytes:
        return await read_body(request, limit)

    return Arrival(
        schedule=schedule,
        token=token or _token_besides_the_path(headers, query),
        headers=headers,
        read_body=read,
        method=request.method,
        url=core.urls.called(scope["raw_path"], query_string),
        query=query,
        is_dry_run=query.get("dry_run") == "1",
    )


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


def _token_besides_the_path(headers: Mapping[str, str], query: dict[str, str]) -> str:
    """Find the token, and take it out of the query so that no one sees it there any more."""
    if token := headers.get(TOKEN_HEADER):
        return token
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credential.strip()
    if scheme.lower() == "basic":
        return _password(credential)
    if token := query.pop(TOKEN_PARAMETER, ""):
        return token
    raise NotFound(NO_SUCH_HOOK)


def _password(credential: str) -> str:
    try:
        return base64.b64decode(credential.strip().encode(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError):
        raise NotFound(NO_SUCH_HOOK) from None
