"""`/v1/audit`: what people did."""

from litestar import get

from gateway.api.query import PAGING, Query
from gateway.audit import AuditFilter
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.audit import Action, AuditEntry
from schemas.pages import Listing
from schemas.states import Role

_FILTERS = ("subject", "action", "caller", "created_after", "created_before", *PAGING)


@get("/v1/audit", guards=[needs(Role.ADMIN)], opt={"query": _FILTERS})
async def list_audit(request: AnyRequest, core: TheCore) -> Listing[AuditEntry]:
    """List what people did, newest first: a `subject` is such as `run:ID` or `pipeline:ID`."""
    query = Query(request)
    page = query.page()
    which = AuditFilter(
        subject=query.text("subject"),
        action=query.choice("action", Action),
        caller=query.text("caller"),
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
    )
    return page.listing(await core.audit.list_page(page, which), lambda entry: entry.id)


handlers = [list_audit]
