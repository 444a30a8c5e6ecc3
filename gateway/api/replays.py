"""`/v1/replays`, and the replay of one event or of many: events that become runs again."""

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.comparisons import compare
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.pages import Listing
from schemas.replays import (
    Comparison,
    NewReplay,
    NewReplayOfMany,
    Replay,
    ReplayAnswer,
    ReplayPreview,
    ReplayState,
)
from schemas.states import Role


@post(
    "/v1/events/{event_id:str}/replay",
    guards=[needs(Role.OPERATOR)],
    status_code=202,
    opt={
        "body": NewReplay,
        "answers": {
            200: (ReplayAnswer | Comparison, "It became no run, or (`dry_run`) nothing was written"),
            202: (ReplayAnswer, "Its runs are queued"),
        },
    },
)
async def replay_event(
    event_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller
) -> Response[ReplayAnswer | Comparison]:
    """Make runs of an event again, as it was or by today's rules, for its own schedule or another one.

    The signature is not checked again, and what came before with the same key does not count.
    """
    new = await read_json(request, NewReplay, limit=core.settings.body_limit, default=NewReplay())
    outcome = await core.replays.judge(path_id(event_id, "event"), new)
    if new.dry_run:
        return Response(compare(outcome), status_code=200)
    answer = await core.replays.replay(outcome, caller)
    return Response(answer, status_code=202 if answer.runs else 200)


@post(
    "/v1/events/replay",
    guards=[needs(Role.OPERATOR)],
    status_code=202,
    opt={
        "body": NewReplayOfMany,
        "answers": {
            200: (ReplayPreview, "What it would begin with (`dry_run`)"),
            202: (Replay, "It was begun"),
        },
    },
)
async def replay_events(request: AnyRequest, core: TheCore, caller: TheCaller) -> Response[Replay | ReplayPreview]:
    """Make runs of all events that a filter finds, the oldest first, at a bounded rate."""
    new = await read_json(request, NewReplayOfMany, limit=core.settings.body_limit)
    if new.dry_run:
        return Response(await core.replays.preview(new), status_code=200)
    replay = await core.replays.start(new, caller)
    return Response(replay, status_code=202, headers={"location": core.urls.resource("replays", str(replay.id))})


@get("/v1/replays", guards=[needs(Role.VIEWER)], opt={"query": ("state", *PAGING)})
async def list_replays(request: AnyRequest, core: TheCore) -> Listing[Replay]:
    """List replays, newest first, with their progress."""
    query = Query(request)
    page = query.page()
    found = await core.replays.list_page(page, state=query.choice("state", ReplayState))
    return page.listing(found, lambda replay: replay.id)


@get("/v1/replays/{replay:str}", guards=[needs(Role.VIEWER)])
async def get_replay(replay: FromPath[str], core: TheCore) -> Replay:
    """Read a replay by id or number, with its progress."""
    return await core.replays.get(replay)


@post("/v1/replays/{replay:str}/cancel", guards=[needs(Role.OPERATOR)], status_code=202)
async def cancel_replay(replay: FromPath[str], core: TheCore, caller: TheCaller) -> Response[Replay]:
    """Make no further runs; those that are made stay."""
    return Response(await core.replays.cancel(replay, caller), status_code=202)


handlers = [replay_event, replay_events, list_replays, get_replay, cancel_replay]
