"""Bodies, read as Airflow's pydantic models read them: everything that is wrong is listed, in pydantic's words."""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from gateway.bodies import read_json
from gateway.dialects.airflow_v2.errors import fault, unprocessable
from gateway.handling import AnyRequest

E = TypeVar("E", bound=StrEnum)


class Fields:
    """The members of a JSON object: each is asked for, and then `refuse_wrong` says all that is wrong at once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._faults: list[dict[str, Any]] = []
        self._known: set[str] = set()

    @classmethod
    async def read(cls, request: AnyRequest, limit: int) -> "Fields":
        """Read the body, an object in JSON; raises Refused."""
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        given: Any = await read_json(request, msgspec.Raw, limit=limit, default=msgspec.Raw(b"null"))
        given = msgspec.json.decode(given)
        if not isinstance(given, dict) or kind != "application/json":
            message = "Input should be a valid dictionary or object to extract fields from"
            if given is None:
                raise unprocessable(fault("missing", ("body",), "Field required", None))
            raise unprocessable(fault("model_attributes_type", ("body",), message, given))
        return cls(given)

    def has(self, name: str) -> bool:
        """Say whether there is such a member, null or not."""
        self._known.add(name)
        return name in self._given

    def require(self, name: str) -> None:
        """Find fault with a member that is missing."""
        if not self.has(name):
            self._faults.append(fault("missing", ("body", name), "Field required", dict(self._given)))

    def text(self, name: str, *, most: int | None = None) -> str | None:
        """Read a text, of at most so many characters."""
        value: str | None = self._of(name, str, "string_type", "Input should be a valid string")
        if value is not None and most is not None and len(value) > most:
            message = f"String should have at most {most} characters"
            self._wrong("string_too_long", name, message, value, ctx={"max_length": most})
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean."""
        value = self._of(name, bool, "bool_type", "Input should be a valid boolean")
        return default if value is None else value

    def number(self, name: str, *, default: int, least: int = 0) -> int:
        """Read a whole number that is not too small."""
        value = self._of(name, int, "int_type", "Input should be a valid integer")
        if isinstance(value, bool):
            self._wrong("int_type", name, "Input should be a valid integer", value)
        elif value is not None and value < least:
            message = f"Input should be greater than or equal to {least}"
            self._wrong("greater_than_equal", name, message, value, ctx={"ge": least})
        return default if value is None else min(value, 2**31 - 1)

    def mapping(self, name: str) -> dict[str, Any]:
        """Read an object; null is an empty one."""
        return self._of(name, dict, "dict_type", "Input should be a valid dictionary") or {}

    def texts(self, name: str) -> list[str]:
        """Read a list of texts; nulls in it are left out."""
        found = self._of(name, list, "list_type", "Input should be a valid list") or []
        for place, value in enumerate(found):
            if value is not None and not isinstance(value, str):
                self._faults.append(
                    fault("string_type", ("body", name, place), "Input should be a valid string", value)
                )
        return [value for value in found if isinstance(value, str)]

    def moment(self, name: str) -> dt.datetime | None:
        """Read an RFC 3339 time with its offset."""
        text = self._of(name, str, "datetime_type", "Input should be a valid datetime")
        if text is None:
            return None
        try:
            found = msgspec.convert(text, dt.datetime)
            if found.tzinfo is not None:
                return found.astimezone(dt.UTC)
            self._wrong("timezone_aware", name, "Input should have timezone info", text)
        except (msgspec.ValidationError, OverflowError):
            message = "Input should be a valid datetime or date, invalid character in year"
            self._wrong("datetime_from_date_parsing", name, message, text, ctx={"error": "invalid character in year"})
        return None

    def choice(self, name: str, kind: type[E]) -> E | None:
        """Read one of the words of an enum."""
        value = self._of(name, object, "enum", "")
        if value is None or (isinstance(value, str) and value in set(kind)):
            return None if value is None else kind(value)
        words = [f"'{word}'" for word in kind]
        expected = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
        self._wrong("enum", name, f"Input should be {expected}", value, ctx={"expected": expected})
        return None

    def wrong_together(self, message: str) -> None:
        """Find fault with how members go together."""
        text = f"Value error, {message}"
        self._faults.append(fault("value_error", ("body",), text, dict(self._given), ctx={"error": {}}))

    def refuse_wrong(self) -> None:
        """Raise Refused with all that was found, and with the members that nobody asked for."""
        for name in self._given.keys() - self._known:
            place, value = ("body", name), self._given[name]
            self._faults.append(fault("extra_forbidden", place, "Extra inputs are not permitted", value))
        if self._faults:
            raise unprocessable(*self._faults)

    def _of(self, name: str, kind: type, fault_kind: str, message: str) -> Any:
        value = self._given.get(name) if self.has(name) else None
        if value is None or isinstance(value, kind):
            return value
        self._wrong(fault_kind, name, message, value)
        return None

    def _wrong(self, kind: str, name: str, message: str, value: Any, *, ctx: Mapping[str, Any] | None = None) -> None:
        self._faults.append(fault(kind, ("body", name), message, value, ctx=ctx))
