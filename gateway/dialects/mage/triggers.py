"""What outside systems call with a schedule's token: each goes the way of every delivery, through the ingest."""

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from gateway import credentials
from gateway.arrivals import read_arrival
from gateway.bodies import keep_body
from gateway.core import Core
from gateway.dialects.mage import wire
from gateway.dialects.mage.errors import invalid
from gateway.dialects.mage.naming import names_of
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCore
from gateway.ingest import Arrival, Outcome
from gateway.rules import Finding
from schemas.errors import NotFound
from schemas.runs import Run

LONGEST_WAIT_S = 60.0
_REJECTED = frozenset({"params_invalid", "mapping_failed", "filter_failed", "dedupe_failed"})
_ANONYMOUS = (
    "Here an event wants the token of the schedule that it is for, as `Authorization: Bearer TOKEN`. Mage takes events "
    "from everybody, so that any stranger can start what they match."
)
_ENDS = (
    "Penstock runs pipelines whole, and not all other blocks come before {block!r}. Ask for the last block, or make a "
    "pipeline that ends with this one."
)


class Triggered(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a trigger; without a run it says why, and `pipeline_runs` are all of a delivery that was split."""

    pipeline_run: wire.PipelineRun | None
    status: str | None = None
    reason: str | None = None
    steps: list[Finding] | None = None
    pipeline_runs: list[wire.PipelineRun] | None = None


class Taken(msgspec.Struct, frozen=True):
    """The answer to an event: what was sent, and what it started."""

    event: msgspec.Raw
    pipeline_runs: list[wire.PipelineRun]


@post("/api/pipeline_schedules/{schedule:str}/pipeline_runs/{token:str}", status_code=200)
async def trigger_with_token(
    schedule: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[bytes]:
    """Take a delivery whose URL carries the token."""
    arrival = read_arrival(request, core, schedule, token, unwrap=wire.unwrap_trigger)
    return await _trigger(core, arrival)


@post("/api/pipeline_schedules/{schedule:str}/api_trigger", status_code=200)
async def trigger_with_bearer(schedule: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Take a delivery whose token is a Bearer."""
    arrival = read_arrival(request, core, schedule, None, unwrap=wire.unwrap_trigger)
    return await _trigger(core, arrival)


@post("/api/events", status_code=200)
async def take_event(request: AnyRequest, core: TheCore) -> Taken:
    """Take an event for the schedule whose token is the Bearer; without a token it is refused."""
    try:
        arrival = read_arrival(request, core, None, None)
    except NotFound:
        raise Refused(_ANONYMOUS, status=401, kind="invalid_api_key") from None
    outcome = await core.ingest.deliver(arrival)
    started = await core.ingest.show_runs(outcome)
    event = started[0].event_variables if started else msgspec.Raw(b"null")
    return Taken(event, await _show(core, started))


@post("/api/runs", status_code=200)
async def run_block(request: AnyRequest, core: TheCore) -> dict[str, wire.PipelineRun | None]:
    """Run the pipeline of a Bearer token's schedule, and answer when it has ended, or after a minute."""
    return await _run_block(read_arrival(request, core, None, None, unwrap=wire.unwrap_block), request, core)


@post("/api/runs/{token:str}", status_code=200)
async def run_block_with_token(
    token: FromPath[str], request: AnyRequest, core: TheCore
) -> dict[str, wire.PipelineRun | None]:
    """Do the same for a token in the URL."""
    return await _run_block(read_arrival(request, core, None, token, unwrap=wire.unwrap_block), request, core)


async def _trigger(core: Core, arrival: Arrival) -> Response[bytes]:
    """With an imported token the schedule in the path is the one that Mage had: only the token says which is ours."""
    if credentials.is_foreign(arrival.token):
        arrival = msgspec.structs.replace(arrival, schedule=None)
    return await triggered(core, await core.ingest.deliver(arrival))


async def triggered(core: Core, outcome: Outcome) -> Response[bytes]:
    """Answer with the run that a delivery became, be it a new one or, for a duplicate, the first one's."""
    if outcome.reply is not None:
        reply = outcome.reply
        return Response(
            reply.body, status_code=reply.status, media_type=reply.content_type, headers=dict(reply.headers)
        )
    started = await _show(core, await core.ingest.show_runs(outcome))
    if outcome.reason_code in _REJECTED:
        raise invalid(outcome.reason or "The delivery was rejected.")
    answer = Triggered(
        pipeline_run=started[0] if started else None,
        status=None if started else outcome.status,
        reason=outcome.reason,
        steps=outcome.explanation,
        pipeline_runs=started if len(started) > 1 else None,
    )
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _run_block(arrival: Arrival, request: AnyRequest, core: Core) -> dict[str, wire.PipelineRun | None]:
    gate = await core.ingest.find_gate(arrival)
    asked = wire.read_block(await keep_body(request, gate.body_limit or core.settings.body_limit))
    if asked.pipeline_uuid not in (None, gate.pipeline_id):
        raise invalid("pipeline_uuid: a token starts the pipeline of its own schedule, and no other.")
    if asked.block_uuid is not None:
        graph = (await core.catalog.get_pipeline(gate.pipeline_id)).graph
        if not wire.runs_last(graph, asked.block_uuid):
            raise invalid(_ENDS.format(block=asked.block_uuid[:200]))
    outcome = await core.ingest.wait(await core.ingest.deliver(arrival), LONGEST_WAIT_S)
    started = await _show(core, await core.ingest.show_runs(outcome))
    return {"run": started[0] if started else None}


async def _show(core: Core, started: list[Run]) -> list[wire.PipelineRun]:
    names = await names_of(core, started)
    return [wire.show_run(run, names) for run in started]


handlers = (trigger_with_token, trigger_with_bearer, take_event, run_block, run_block_with_token)
