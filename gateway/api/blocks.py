"""`/v1/runs/{id}/blocks/{block}`: one block of one run, or one item of a mapped block."""

from litestar import get
from litestar.params import FromPath

from gateway.api.query import PAGING, Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.pages import Listing
from schemas.runs import BlockAttempt
from schemas.states import Role


@get(
    "/v1/runs/{run:str}/blocks/{block:str}/attempts",
    guards=[needs(Role.VIEWER)],
    opt={"query": ("map_index", *PAGING)},
)
async def list_attempts(
    run: FromPath[str], block: FromPath[str], request: AnyRequest, core: TheCore
) -> Listing[BlockAttempt]:
    """List the attempts of a block, first to last; `map_index` names an item of a mapped block."""
    query = Query(request)
    page = query.page()
    found = await core.runs.list_attempts(run, block, page, map_index=query.integer("map_index"))
    return page.listing(found, lambda attempt: attempt.attempt)


handlers = [list_attempts]
