"""`/v1/tokens`: ending and replacing schedule tokens."""

from litestar import delete, post
from litestar.params import FromPath

from gateway.api.query import path_id
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.schedules import Rotation, ShownToken
from schemas.states import Role


@delete("/v1/tokens/{token_id:str}", guards=[needs(Role.EDITOR)])
async def revoke_token(token_id: FromPath[str], core: TheCore, caller: TheCaller) -> None:
    """Revoke a token now."""
    await core.catalog.revoke_token(path_id(token_id, "token"), caller)


@post("/v1/tokens/{token_id:str}/rotate", guards=[needs(Role.EDITOR)], opt={"body": Rotation})
async def rotate_token(token_id: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> ShownToken:
    """Create a token beside an old one, which ends after its grace."""
    rotation = await read_json(request, Rotation, limit=core.settings.body_limit, default=Rotation())
    return await core.catalog.rotate_token(path_id(token_id, "token"), rotation, caller)


handlers = [revoke_token, rotate_token]
