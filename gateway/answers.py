"""Where other systems call back with the answer that a block waits for; the URL is the permission."""

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from gateway.bodies import read_body
from gateway.handling import AnyRequest, TheCore
from gateway.intake import header_map


class Taken(msgspec.Struct):
    """What the other system is told: `accepted`, or `duplicate` when an answer had come before, which counts."""

    status: str


_ANSWERS = {202: (Taken, "Accepted: the block goes on"), 200: (Taken, "A duplicate: the first answer counts")}


@post("/callbacks/{run:str}/{token:str}", opt={"answers": _ANSWERS})
async def call_back(run: FromPath[str], token: FromPath[str], request: AnyRequest, core: TheCore) -> Response[bytes]:
    """Give a block the answer that it waits for: any JSON; one whose `state` is `failed` fails the block."""
    body = await read_body(request, core.settings.body_limit)
    content_type = header_map(request.scope["headers"]).get("content-type", "")
    is_first = await core.callbacks.receive(run, token, body, content_type)
    content = msgspec.json.encode(Taken("accepted" if is_first else "duplicate"))
    return Response(content, status_code=202 if is_first else 200, media_type="application/json")
