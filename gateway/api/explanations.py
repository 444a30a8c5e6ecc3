"""`/v1/events/{id}/explain`: why a delivery did or did not run."""

from litestar import get
from litestar.params import FromPath

from gateway.api.query import path_id
from gateway.auth import needs
from gateway.explanations import Explanation
from gateway.handling import TheCore
from schemas.states import Role


@get("/v1/events/{event_id:str}/explain", guards=[needs(Role.VIEWER)])
async def explain_event(event_id: FromPath[str], core: TheCore) -> Explanation:
    """Say step by step what became of a delivery, with the value of each part of each expression.

    `today` says what it would become under the rules that its schedule has now, where they are others.
    """
    return await core.explanations.explain(path_id(event_id, "event"))


handlers = [explain_event]
