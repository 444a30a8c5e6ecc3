"""`/v1/purge` and `/v1/purges`: deleting what is old."""

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.pages import Listing
from schemas.purges import NewPurge, Preview, Purge
from schemas.states import Role


@post(
    "/v1/purge",
    guards=[needs(Role.ADMIN)],
    opt={
        "body": NewPurge,
        "answers": {200: (Preview, "What it would delete (dry_run)"), 202: (Purge, "It was asked for")},
    },
    status_code=202,
)
async def purge(request: AnyRequest, core: TheCore, caller: TheCaller) -> Response[Preview | Purge]:
    """Delete runs that ended more than `days` days ago (30 unless said otherwise), and what is only theirs.

    Active runs and their events stay, whatever their age; so do delivery ids, so that old deliveries stay duplicates.
    """
    new = await read_json(request, NewPurge, limit=core.settings.body_limit, default=NewPurge())
    if new.dry_run:
        return Response(await core.purging.preview(new.days), status_code=200)
    return Response(await core.purging.ask(new.days, caller), status_code=202)


@get("/v1/purges", guards=[needs(Role.ADMIN)], opt={"query": PAGING})
async def list_purges(request: AnyRequest, core: TheCore) -> Listing[Purge]:
    """List purges, newest first."""
    page = Query(request).page()
    return page.listing(await core.purging.list_page(page), lambda purge: purge.id)


@get("/v1/purges/{purge_id:str}", guards=[needs(Role.ADMIN)])
async def get_purge(purge_id: FromPath[str], core: TheCore) -> Purge:
    """Read how far a purge is."""
    return await core.purging.get(path_id(purge_id, "purge"))


handlers = [purge, list_purges, get_purge]
