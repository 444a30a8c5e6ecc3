"""The query string of `/v1`, and path ids: a wrong one is a clear 4xx and never a 500."""

import uuid

from gateway.handling import AnyRequest
from gateway.parameters import Parameters, wrong
from schemas.errors import NotFound
from schemas.pages import Page

PAGING = ("limit", "cursor")


class Query(Parameters):
    """The query string of one request, with the parameters that its handler names in `opt` and no others."""

    def __init__(self, request: AnyRequest) -> None:
        super().__init__(request)
        known = request.route_handler.opt["query"]
        if unknown := sorted(self._values.keys() - set(known)):
            raise wrong(unknown[0], f"there is no such parameter; there are {', '.join(known)}")

    def page(self) -> Page:
        """Read `limit` and `cursor`."""
        return Page.parse(self.integer("limit"), self.text("cursor"))


def path_id(text: str, what: str) -> uuid.UUID:
    """Read an id of the path; what is none names nothing that exists (NotFound)."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound(f"There is no {what} {text[:64]}.") from None
