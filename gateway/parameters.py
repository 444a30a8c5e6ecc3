"""Query parameters, read so that a wrong one is a clear 4xx and never a 500."""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from gateway.handling import AnyRequest
from schemas.errors import FieldError, Invalid

E = TypeVar("E", bound=StrEnum)
_Moment = Annotated[dt.datetime, Meta(tz=True)]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Parameters:
    """The query string of one request; an empty value is none. Its methods raise Invalid that names the parameter."""

    def __init__(self, request: AnyRequest) -> None:
        self._all = [(name, value) for name, value in request.query_params.multi_items() if value != ""]
        self._values = dict(self._all)

    def texts(self, name: str) -> list[str]:
        """Read a parameter that may be repeated, in order."""
        return [self._checked(name, value) for given, value in self._all if given == name]

    def text(self, name: str) -> str | None:
        """Read a text; NUL, which Postgres has no place for, is refused."""
        value: str | None = self._values.get(name)
        return None if value is None else self._checked(name, value)

    def integer(self, name: str) -> int | None:
        """Read a number from 0 to 2147483647."""
        value = self.text(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) < 2**31):
            raise wrong(name, "it is not a number")
        return int(value)

    def uuid(self, name: str) -> uuid.UUID | None:
        """Read an id."""
        value = self.text(name)
        try:
            return None if value is None else uuid.UUID(value)
        except ValueError:
            raise wrong(name, "it is not an id") from None

    def moment(self, name: str) -> dt.datetime | None:
        """Read an RFC 3339 time with its offset; nothing is older than 1970."""
        value = self.text(name)
        try:
            return None if value is None else max(msgspec.convert(value, _Moment), _EPOCH)
        except msgspec.ValidationError:
            raise wrong(name, "it is not an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z") from None

    def choice(self, name: str, kind: type[E]) -> E | None:
        """Read one of the words of an enum."""
        value = self.text(name)
        try:
            return None if value is None else kind(value)
        except ValueError:
            raise wrong(name, f"it is one of {', '.join(kind)}") from None

    @staticmethod
    def _checked(name: str, value: str) -> str:
        if "\0" in value:
            raise wrong(name, "it has a NUL character")
        return value


def wrong(name: str, message: str) -> Invalid:
    """Say what is wrong with a parameter."""
    return Invalid(f"The parameter {name}: {message}.", errors=(FieldError(f"/{name}", message),))
