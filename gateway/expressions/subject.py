"""What expressions see of one delivery, converted once for all of them, and only when one asks for it."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

from gateway.expressions.runtime import Values
from gateway.expressions.tree import Fields
from gateway.incoming import Incoming

LARGEST_BODY = 2 * 1024 * 1024
DEEPEST_BODY = 400  # arrays and objects inside each other; the runtime goes down on the stack
_UNFIT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class ExpressionFailed(Exception):
    """An expression has no value for this delivery; the text says why."""


class Budget:
    """What the expressions over one delivery may have taken so far, at worst, in nanoseconds."""

    def __init__(self) -> None:
        self.spent_ns = 0.0


class Subject:
    """One delivery, or one item of it, as expressions see it.

    `body` is `event_variables`; for an item, `incoming` has its payload as body, and the budget is its delivery's. JSON
    arrives as it is, but for what the language cannot hold: a whole number beyond 64 bits becomes a double, a NUL in
    a text becomes U+FFFD. `event.id` is the delivery's id as the source read it; it and `event.type` are empty when the
    sender gave none.
    """

    def __init__(
        self,
        incoming: Incoming,
        *,
        source: str,
        event_id: str | None,
        event_type: str | None,
        budget: Budget | None = None,
    ) -> None:
        self._incoming = incoming
        self.budget = budget or Budget()
        self._fields: Fields = None
        self._converted: Values | None = None
        self._sizes: dict[tuple[str, Sequence[str | int]], int] = {}
        self._rest = {
            "headers": fit(incoming.headers),
            "query": fit(incoming.query),
            "event.id": fit(event_id or ""),
            "event.type": fit(event_type or ""),
            "event.source": source,
            "event.received_at": dt.datetime.fromtimestamp(incoming.now, dt.UTC),
        }

    @property
    def size(self) -> int:
        """About how many bytes of JSON it is."""
        return len(self._incoming.body) + 1024

    def narrow(self, fields: Fields) -> None:
        """Show no more of the body than these fields from now on: converting costs more than most expressions."""
        self._fields = fields
        self._converted = None

    def values(self, *, with_body: bool) -> Values:
        """Give the runtime what an expression needs; raises ExpressionFailed for a body that is beyond its bounds."""
        if not with_body:
            return self._without_body
        if self._converted is None:
            self._converted = self.values_of(self._fields)
        return self._converted

    def values_of(self, fields: Fields) -> Values:
        """Give the runtime these fields of the body, or all of it; raises ExpressionFailed."""
        body = _choose(self._body, fields)
        values = Values({**self._rest, "body": body})
        return values if values.hold_the_body else Values({**self._rest, "body": fit(body)})

    def find(self, root: str, path: Sequence[str | int]) -> Any:
        """Read the value at a path of names and indexes, or None."""
        value: Any = self._body if root == "body" else self._rest.get(root)
        for step in path:
            is_there = isinstance(value, Mapping) and step in value
            if not is_there and not (isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)):
                return None
            value = value[step]
        return value

    def size_of(self, root: str, path: Sequence[str | int]) -> int:
        """Measure the value at a path: the length of a text, or of the JSON of anything else."""
        if (root, path) not in self._sizes:
            value = self.find(root, path)
            self._sizes[root, path] = len(value if isinstance(value, str) else msgspec.json.encode(value))
        return self._sizes[root, path]

    @cached_property
    def _body(self) -> Any:
        raw = self._incoming.body
        if len(raw) > LARGEST_BODY:
            raise ExpressionFailed(f"the body has {len(raw)} bytes, and expressions read up to {LARGEST_BODY}")
        body = self._incoming.document
        if raw.count(b"[") + raw.count(b"{") > DEEPEST_BODY and _is_too_deep(body):
            raise ExpressionFailed(f"the body is nested deeper than {DEEPEST_BODY} levels")
        return fit(body) if _may_hold_a_nul(raw) else body

    @cached_property
    def _without_body(self) -> Values:
        return Values(self._rest)


def _choose(value: Any, fields: Fields) -> Any:
    if fields is None or not isinstance(value, dict):
        return value
    return {name: _choose(value[name], below) for name, below in fields.items() if name in value}


def _may_hold_a_nul(raw: bytes) -> bool:
    """Look for an escaped NUL, after a look for the one byte that it begins with, which is ten times as quick."""
    return (b"\\" in raw and b"\\u0000" in raw) or (b"%" in raw and b"%00" in raw)


def fit(value: Any) -> Any:
    """Rebuild a value of what the language has: numbers of 64 bits, texts without NUL."""
    match value:
        case str():
            return _UNFIT.sub(_REPLACEMENT, value)
        case bool() | None | float():
            return value
        case int() if -(2**63) <= value < 2**64:
            return value
        case int() | Decimal():
            return _double(value)
        case Mapping():
            return {fit(key): fit(item) for key, item in value.items()}
    return [fit(item) for item in value]


def _double(value: int | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _is_too_deep(value: Any) -> bool:
    """Go down level by level, not by recursion."""
    level = [value]
    for _ in range(DEEPEST_BODY + 1):
        level = [item for each in level for item in _inside(each)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]
