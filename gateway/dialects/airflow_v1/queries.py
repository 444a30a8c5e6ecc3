"""Query strings: only what Airflow 2 knows, each value in its type."""

import datetime as dt
from collections.abc import Collection

from gateway.dialects.airflow_v1 import dates
from gateway.dialects.airflow_v1.errors import titled
from gateway.errors import Refused
from gateway.handling import AnyRequest
from gateway.parameters import Parameters
from schemas.errors import NotFound
from schemas.pages import Span

LARGEST_LIMIT = 100
_LONGEST_NUMBER = 10  # digits, of which Postgres' integers have no more
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def bounds(*names: str) -> list[str]:
    """Name the parameters of ranges: `start_date` has `start_date_gte` and `start_date_lte`."""
    return [f"{name}_{bound}" for name in names for bound in ("gte", "lte")]


class Query:
    """The query string of one request; its methods, and a parameter that is none of `names`, raise Refused."""

    def __init__(self, request: AnyRequest, names: Collection[str] = ()) -> None:
        extra = sorted(set(request.query_params) - set(names))
        if extra:
            raise Refused(f"Extra query parameter(s) {', '.join(extra)} not in spec")
        self._asked = Parameters(request)

    def text(self, name: str) -> str | None:
        """Read a text."""
        return self._asked.text(name)

    def texts(self, name: str) -> list[str]:
        """Read a parameter that may be repeated."""
        return self._asked.texts(name)

    def listed(self, name: str) -> list[str]:
        """Read a list with commas, which may be repeated as well."""
        return [word.strip() for text in self.texts(name) for word in text.split(",") if word.strip()]

    def integer(self, name: str) -> int | None:
        """Read a whole number."""
        text = self.text(name)
        if text is None:
            return None
        if not is_integer(text):
            raise _wrong_type("integer", name)
        return int(text)

    def number(self, name: str) -> float | None:
        """Read any number."""
        text = self.text(name)
        try:
            return None if text is None else float(text)
        except ValueError:
            raise _wrong_type("number", name) from None

    def flag(self, name: str) -> bool | None:
        """Read a boolean."""
        text = self.text(name)
        if text is not None and text.lower() not in _FLAGS:
            raise _wrong_type("boolean", name)
        return None if text is None else _FLAGS[text.lower()]

    def moment(self, name: str) -> dt.datetime | None:
        """Read a date; a blank in it was a plus that nobody encoded."""
        text = self.text(name)
        return None if text is None else dates.read(text.strip().replace(" ", "+"))

    def span(self) -> Span:
        """Read `limit` and `offset`; no limit, and one of 0, is the largest."""
        limit, offset = self.integer("limit"), self.integer("offset")
        if limit is not None and limit < 0:
            raise titled("Page limit must be a positive integer")
        if offset is not None and offset < 0:
            raise Refused(f"{offset} is less than the minimum of 0")
        return Span.within(offset, limit or LARGEST_LIMIT, default=LARGEST_LIMIT, largest=LARGEST_LIMIT)


def path_integer(text: str) -> int:
    """Read a number out of a path; any other text is part of no path, and raises NotFound."""
    if not is_integer(text):
        raise NotFound
    return int(text)


def is_integer(text: str) -> bool:
    """Say whether this is a whole number that Postgres holds."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < _LONGEST_NUMBER


def _wrong_type(kind: str, name: str) -> Refused:
    return Refused(f"Wrong type, expected '{kind}' for query parameter '{name}'")
