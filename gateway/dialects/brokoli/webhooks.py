"""`/api/pipelines/{id}/webhook`: a delivery like one at `/hooks`, with the token where Brokoli's senders put it.

Brokoli runs the pipeline within the request and drops the body. Here the body becomes the event, the answer comes when
event and run are committed, and a sender that wants to know the end asks for it with `Prefer: wait=N`.
"""

import uuid

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from gateway.arrivals import TokenPlaces, read_arrival
from gateway.dialects.brokoli.errors import finding_pipeline
from gateway.dialects.brokoli.wire import RUN_STATUS
from gateway.handling import AnyRequest, TheCore
from gateway.ingest import Outcome
from gateway.prefer import wait_s

_PLACES = TokenPlaces(header="x-webhook-token", parameter="token", is_authorization=False)  # that may hold a key
_STATUS = {"accepted": 202, "duplicate": 200, "ignored": 200}


class Taken(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a delivery: its run, or why it has none; `runs` are all of one that was split."""

    run_id: uuid.UUID | None
    status: str
    reason: str | None = None
    runs: list[uuid.UUID] | None = None


@post("/api/pipelines/{pipeline_id:str}/webhook")
async def webhook(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Take a delivery whose token is `?token=` or `X-Webhook-Token`: its body is the event."""
    with finding_pipeline():
        arrival = read_arrival(request, core, None, None, places=_PLACES, pipeline_id=pipeline_id)
        outcome = await core.ingest.deliver(arrival)
    if outcome.runs and (seconds := wait_s(arrival.headers.get("prefer", ""))):
        outcome = await core.ingest.wait(outcome, seconds)
    return _answer(outcome)


def _answer(outcome: Outcome) -> Response[bytes]:
    if outcome.reply is not None:
        reply = outcome.reply
        return Response(
            reply.body, status_code=reply.status, media_type=reply.content_type, headers=dict(reply.headers) or None
        )
    status = 200 if outcome.has_ended or outcome.explanation is not None else _STATUS[outcome.status]
    return Response(msgspec.json.encode(_taken(outcome)), status_code=status, media_type="application/json")


def _taken(outcome: Outcome) -> Taken:
    if not outcome.runs:
        return Taken(None, outcome.status, outcome.reason)
    ids = [run.id for run in outcome.runs]
    return Taken(ids[0], RUN_STATUS[outcome.runs[0].state], outcome.reason, ids if len(ids) > 1 else None)


handlers = (webhook,)
