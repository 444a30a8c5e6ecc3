"""Where outside systems knock: one POST is one delivery, and a 2xx means that it is committed."""

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from gateway.bodies import read_body
from gateway.core import Outcome
from gateway.handling import AnyRequest, TheCore
from gateway.intake import header_map
from gateway.prefer import wait_s
from schemas.errors import NotFound
from schemas.runs import RunRef

TOKEN_HEADER = "x-penstock-token"  # noqa: S105 - a header's name
_STATUS = {"accepted": 202, "duplicate": 200, "ignored": 200}
_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, omit_defaults=True):
    """What a sender is told."""

    event_id: str | None
    status: str
    runs: list[RunRef]
    reason: str | None = None
    dry_run: bool = False
    steps: list[dict[str, str]] | None = None


_ANSWERS = {
    202: (Answer, "Accepted: event and runs are committed"),
    200: (Answer, "A duplicate, ignored, or, after `Prefer: wait`, ended"),
}


@post("/hooks/{schedule:str}/{token:str}", opt={"answers": _ANSWERS})
async def hook_with_token(
    schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[bytes]:
    """Take a delivery whose URL carries the token or the signed link."""
    return await _take(schedule, token, request, core)


@post("/hooks/{schedule:str}", opt={"answers": _ANSWERS})
async def hook_with_header(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Take a delivery whose token comes as `Authorization: Bearer` or `X-Penstock-Token`."""
    return await _take(schedule, _header_token(header_map(request.scope["headers"])), request, core)


async def _take(schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    headers = header_map(request.scope["headers"])
    dry_run = bool(request.scope["query_string"]) and request.query_params.get("dry_run") == "1"

    async def read(limit: int) -> bytes:
        return await read_body(request, limit)

    outcome = await core.deliver(schedule, token, headers=headers, read_body=read, dry_run=dry_run)
    if outcome.runs and (seconds := wait_s(headers.get("prefer", ""))):
        outcome = await core.wait(outcome, seconds)
    return _answer(outcome)


def _answer(outcome: Outcome) -> Response[bytes]:
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


def _header_token(headers: dict[str, str]) -> str:
    if token := headers.get(TOKEN_HEADER):
        return token
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotFound("There is no such hook.")
    return credential.strip()
