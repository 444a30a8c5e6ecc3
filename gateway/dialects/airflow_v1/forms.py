"""Bodies: the first member that is wrong is refused, in the words of Airflow 2's checks."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from gateway.bodies import read_json
from gateway.dialects.airflow_v1 import dates
from gateway.dialects.airflow_v1.errors import invalid, of_field
from gateway.errors import Refused
from gateway.handling import AnyRequest

E = TypeVar("E", bound=StrEnum)
_LONGEST_SHOWN = 200
_LARGEST = 2**31 - 1


class Form:
    """The members of a JSON object, none of which has a name that is not expected."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    @classmethod
    async def read(
        cls, request: AnyRequest, limit: int, names: Collection[str], *, read_only: Collection[str] = ()
    ) -> "Form":
        """Read the body, an object in JSON with some of these members; raises Refused."""
        kind = request.headers.get("content-type", "None").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(f"Invalid Content-type ({kind}), expected JSON data", status=415)
        given: Any = await read_json(request, Any, limit=limit, default=msgspec.UNSET)
        if given is msgspec.UNSET:
            raise Refused("RequestBody is required")
        if not isinstance(given, dict):
            raise invalid(f"{_shown(given)} is not of type 'object'")
        for name in given:
            if name in read_only:
                raise invalid("Property is read-only", name)
            if name not in names:
                raise of_field(name, "Unknown field.")
        return cls(given)

    def has(self, name: str) -> bool:
        """Say whether there is such a member."""
        return name in self._given

    def is_null(self, name: str) -> bool:
        """Say whether a member is there and null."""
        return name in self._given and self._given[name] is None

    def text(self, name: str, *, most: int | None = None) -> str | None:
        """Read a text, of at most so many characters."""
        value: str | None = self._of(name, str, "string")
        if value is not None and "\0" in value:
            raise of_field(name, "Null characters are not allowed.")
        if value is not None and most is not None and len(value) > most:
            raise of_field(name, f"Longer than maximum length {most}.")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean."""
        value: bool | None = self._of(name, bool, "boolean")
        return default if value is None else value

    def number(self, name: str, *, default: int, least: int = 0) -> int:
        """Read a whole number that is not too small."""
        value: int | None = self._of(name, int, "integer")
        if isinstance(value, bool):
            raise invalid(f"{value} is not of type 'integer'", name)
        if value is not None and value < least:
            raise invalid(f"{value} is less than the minimum of {least}", name)
        return default if value is None else min(value, _LARGEST)

    def mapping(self, name: str) -> dict[str, Any]:
        """Read an object."""
        return self._of(name, dict, "object") or {}

    def texts(self, name: str) -> list[str]:
        """Read a list of texts."""
        found: list[Any] = self._of(name, list, "array") or []
        for place, value in enumerate(found):
            if not isinstance(value, str) or "\0" in value:
                raise invalid(f"{_shown(value)} is not of type 'string'", f"{name}.{place}")
        return found

    def moment(self, name: str, *, may_be_null: bool = False) -> dt.datetime | None:
        """Read a date with its offset."""
        if self.is_null(name):
            if may_be_null:
                return None
            raise dates.incorrect("parse() argument must be str, not None")
        text = self.text(name)
        return None if text is None else dates.read_zoned(text)

    def choice(self, name: str, words: Sequence[E]) -> E:
        """Read one of these words, which must be there."""
        value = self._given.get(name)
        if name not in self._given:
            raise invalid(f"'{name}' is a required property")
        for word in words:
            if value == word:
                return word
        raise invalid(f"{_shown(value)} is not one of {[str(word) for word in words]}", name)

    def _of(self, name: str, kind: type, called: str) -> Any:
        if name not in self._given:
            return None
        value = self._given[name]
        if not isinstance(value, kind):
            raise invalid(f"{_shown(value)} is not of type '{called}'", name)
        return value


def _shown(value: Any) -> str:
    return repr(value)[:_LONGEST_SHOWN]
