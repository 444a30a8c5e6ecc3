"""Query parameters and path ids, read so that a wrong one is a clear 422 and never a 500."""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from gateway.handling import AnyRequest
from schemas.errors import FieldError, Invalid, NotFound
from schemas.pages import Page

E = TypeVar("E", bound=StrEnum)
PAGING = ("limit", "cursor")
_Moment = Annotated[dt.datetime, Meta(tz=True)]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Query:
    """The query string of one request, with the parameters that its handler names in `opt`."""

    def __init__(self, request: AnyRequest) -> None:
        known = request.route_handler.opt["query"]
        self._values = {name: value for name, value in request.query_params.items() if value != ""}
        if unknown := sorted(self._values.keys() - set(known)):
            raise _wrong(unknown[0], f"there is no such parameter; there are {', '.join(known)}")

    def page(self) -> Page:
        """Read `limit` and `cursor`."""
        return Page.parse(self.integer("limit"), self.text("cursor"))

    def text(self, name: str) -> str | None:
        """Read a text; NUL, which Postgres has no place for, is refused."""
        value: str | None = self._values.get(name)
        if value is not None and "\0" in value:
            raise _wrong(name, "it has a NUL character")
        return value

    def integer(self, name: str) -> int | None:
        """Read a number from 0 to 2147483647."""
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) < 2**31):
            raise _wrong(name, "it is not a number")
        return int(value)

    def uuid(self, name: str) -> uuid.UUID | None:
        """Read an id."""
        value = self.text(name)
        try:
            return None if value is None else uuid.UUID(value)
        except ValueError:
            raise _wrong(name, "it is not an id") from None

    def moment(self, name: str) -> dt.datetime | None:
        """Read an RFC 3339 time with its offset; nothing is older than 1970."""
        value = self.text(name)
        try:
            return None if value is None else max(msgspec.convert(value, _Moment), _EPOCH)
        except msgspec.ValidationError:
            raise _wrong(name, "it is not an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z") from None

    def choice(self, name: str, kind: type[E]) -> E | None:
        """Read one of the words of an enum."""
        value = self.text(name)
        try:
            return None if value is None else kind(value)
        except ValueError:
            raise _wrong(name, f"it is one of {', '.join(kind)}") from None


def path_id(text: str, what: str) -> uuid.UUID:
    """Read an id of the path; what is none names nothing that exists (NotFound)."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound(f"There is no {what} {text[:64]}.") from None


def _wrong(name: str, message: str) -> Invalid:
    return Invalid(f"The parameter {name}: {message}.", errors=(FieldError(f"/{name}", message),))
