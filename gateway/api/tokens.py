"""`/v1/tokens`: ending and replacing schedule tokens."""

from litestar import delete, post

from gateway.api.query import AnyRequest, path_id
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.core import Core
from schemas.schedules import Rotation, ShownToken
from schemas.states import Role


@delete("/v1/tokens/{token_id:str}", guards=[needs(Role.EDITOR)])
async def revoke_token(token_id: str, core: Core) -> None:
    """Revoke a token now."""
    await core.catalog.revoke_token(path_id(token_id, "token"))


@post("/v1/tokens/{token_id:str}/rotate", guards=[needs(Role.EDITOR)])
async def rotate_token(token_id: str, request: AnyRequest, core: Core) -> ShownToken:
    """Create a token beside an old one, which ends after its grace."""
    rotation = await read_json(request, Rotation, limit=core.settings.body_limit, default=Rotation())
    return await core.catalog.rotate_token(path_id(token_id, "token"), rotation)


handlers = [revoke_token, rotate_token]
