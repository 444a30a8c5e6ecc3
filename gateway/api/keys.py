"""`/v1/keys`: API keys."""

from litestar import delete, get, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.keys import Key, NewKey, ShownKey
from schemas.pages import Listing
from schemas.states import Role


@get("/v1/keys", guards=[needs(Role.ADMIN)], opt={"query": PAGING})
async def list_keys(request: AnyRequest, core: TheCore) -> Listing[Key]:
    """List API keys by hint, newest first."""
    Query(request)
    return Listing(await core.catalog.list_keys(), None)


@post("/v1/keys", guards=[needs(Role.ADMIN)], opt={"body": NewKey})
async def create_key(request: AnyRequest, core: TheCore, caller: TheCaller) -> ShownKey:
    """Create an API key; this answer is the only place where it is shown."""
    return await core.catalog.create_key(await read_json(request, NewKey, limit=core.settings.body_limit), caller)


@delete("/v1/keys/{key_id:str}", guards=[needs(Role.ADMIN)])
async def revoke_key(key_id: FromPath[str], core: TheCore, caller: TheCaller) -> None:
    """Revoke an API key now."""
    await core.catalog.revoke_key(path_id(key_id, "API key"), caller)


handlers = [list_keys, create_key, revoke_key]
