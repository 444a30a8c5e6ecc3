"""Where two JSON values differ, as JSON Pointers (RFC 6901)."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec import UNSET

from schemas.replays import Difference

DEEPEST = 100  # what differs below is shown as one difference


def find(then: Any, now: Any, *, most: int) -> list[Difference]:
    """List the places where two values differ, so many of them; 1 and 1.0 differ, for a block that gets them."""
    return list(islice(_walk(then, now, ""), most))


def _walk(then: Any, now: Any, pointer: str) -> Iterator[Difference]:
    if _is_same(then, now):
        return
    pairs = _members(then, now) if pointer.count("/") < DEEPEST else None
    if pairs is None:
        yield Difference(pointer=pointer, then=then, now=now)
        return
    for name, old, new in pairs:
        yield from _walk(old, new, f"{pointer}/{name}")


def _is_same(then: Any, now: Any) -> bool:
    """Compare what has no parts; for Python true is 1, and 1 is 1.0."""
    return type(then) is type(now) and not isinstance(then, Mapping | list) and bool(then == now)


def _members(then: Any, now: Any) -> Iterator[tuple[str, Any, Any]] | None:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        return ((_escape(name), then.get(name, UNSET), now.get(name, UNSET)) for name in {**then, **now})
    if isinstance(then, list) and isinstance(now, list):
        return _elements(then, now)
    return None


def _elements(then: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    for place in range(max(len(then), len(now))):
        yield str(place), _at(then, place), _at(now, place)


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else UNSET


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
