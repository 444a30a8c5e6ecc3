"""What expressions see of one delivery, converted once for all of them, and only when one asks for it."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

from gateway.expressions.runtime import Values
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
        self._sizes: dict[tuple[str, Sequence[str | int]], int] = {}
        self._rest = {
            "headers": _fit(incoming.headers),
            "query": _fit(incoming.query),
            "event.id": _fit(event_id or ""),
            "event.type": _fit(event_type or ""),
            "event.source": source,
            "event.received_at": dt.datetime.fromtimestamp(incoming.now, dt.UTC),
        }

    @property
    def size(self) -> int:
        """About how many bytes of JSON it is."""
        return len(self._incoming.body) + 1024

    def values(self, *, with_body: bool) -> Values:
        """Give the runtime what an expression needs; raises ExpressionFailed for a body that is beyond its bounds."""
        return self._with_body[0] if with_body else self._without_body

    def find(self, root: str, path: Sequence[str | int]) -> Any:
        """Read the value at a path of names and indexes, or None."""
        value: Any = self._with_body[1] if root == "body" else self._rest.get(root)
        for step in path:
            try:
                value = value[step]
            except (TypeError, LookupError):
                return None
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
        return _fit(body) if b"\\u0000" in raw or b"%00" in raw else body

    @cached_property
    def _without_body(self) -> Values:
        return Values(self._rest)

    @cached_property
    def _with_body(self) -> tuple[Values, Any]:
        body = self._body
        values = Values({**self._rest, "body": body})
        if not values.hold_the_body:
            body = _fit(body)
            values = Values({**self._rest, "body": body})
        return values, body


def _fit(value: Any) -> Any:
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
            return {_fit(key): _fit(item) for key, item in value.items()}
    return [_fit(item) for item in value]


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
