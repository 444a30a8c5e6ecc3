"""Our one way to page: newest first, `limit` and an opaque `cursor` in, `items` and `next_cursor` out.

Other products page by offset and tell a total; `Span` and `Counted` are for their dialects, with bounds on both.
"""

import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from schemas.errors import Invalid

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 200
LARGEST_NUMBER = 2**31 - 1
MOST_COUNTED = 10_000
Item = TypeVar("Item")


class Listing(msgspec.Struct, Generic[Item], frozen=True):
    """One page of a list; `next_cursor` is null on the last, and only there.

    A page may hold fewer items than its limit, even none, and still have a cursor: a filter without an index of its own
    looks at so many candidates per page and no more.
    """

    items: Sequence[Item]
    next_cursor: str | None


class Found(msgspec.Struct, Generic[Item], frozen=True):
    """What a bounded look found; `stopped_at` is the key where it ended although more may follow."""

    items: Sequence[Item]
    stopped_at: object | None = None


def found_among(candidates: Sequence[Any], *, limit: int) -> Found[uuid.UUID]:
    """Read candidates (`id`, `is_match`, `is_last`) of a look for `limit` items, one more than a page shows.

    When there is one more, the look goes on behind the last shown, even if some are gone before they are read.
    """
    found = [row["id"] for row in candidates if row["is_match"]]
    ended_at = next((row["id"] for row in candidates if row["is_last"]), None)
    return Found(found, found[-2] if len(found) == limit > 1 else ended_at)


class Span(msgspec.Struct, frozen=True):
    """Which part of a list is wanted, for products that page by offset: `limit` items after the first `offset`.

    Such a list ends at its first MOST_COUNTED items: what is further away is found by a narrower filter.
    """

    offset: int = 0
    limit: int = DEFAULT_LIMIT

    @classmethod
    def within(cls, offset: int | None, limit: int | None, *, default: int, largest: int) -> "Span":
        """Fit what a client asked for into the bounds; no limit is the default."""
        return cls(min(offset or 0, MOST_COUNTED), default if limit is None else min(limit, largest))

    @classmethod
    def of_page(cls, number: int, size: int) -> "Span":
        """Translate a page that is counted from 1."""
        return cls(min((max(number, 1) - 1) * size, MOST_COUNTED), size)


class Counted(msgspec.Struct, Generic[Item], frozen=True):
    """A part of a list, and how many items it has in all, as far as they are counted (MOST_COUNTED)."""

    items: Sequence[Item]
    total: int


class Page(msgspec.Struct, frozen=True):
    """Which page is wanted: what comes after the item with this key."""

    limit: int
    after: str | None

    @classmethod
    def parse(cls, limit: int | None, cursor: str | None) -> "Page":
        """Read the query parameters; raises Invalid."""
        limit = DEFAULT_LIMIT if limit is None else limit
        if not 1 <= limit <= LARGEST_LIMIT:
            raise Invalid(f"limit is between 1 and {LARGEST_LIMIT}, not {limit}.")
        return cls(limit, None if cursor is None else _decode(cursor))

    def starting_after(self, number: int) -> "Page":
        """Begin after the item with this number instead."""
        return Page(self.limit, str(number))

    @property
    def before_id(self) -> uuid.UUID | None:
        """The key as an id; raises Invalid."""
        try:
            return None if self.after is None else uuid.UUID(self.after)
        except ValueError:
            raise _not_ours() from None

    @property
    def after_text(self) -> str | None:
        """The key as it is."""
        return self.after

    @property
    def after_number(self) -> int:
        """The key as a number, 0 on the first page; raises Invalid."""
        if self.after is None:
            return 0
        if not (self.after.isascii() and self.after.isdigit() and len(self.after) <= 10):
            raise _not_ours()
        if (number := int(self.after)) > LARGEST_NUMBER:
            raise _not_ours()
        return number

    def listing(self, found: Sequence[Item], key: Callable[[Item], object]) -> Listing[Item]:
        """Make the answer out of `limit + 1` items found."""
        items = found[: self.limit]
        more = len(found) > self.limit
        return Listing(items, _encode(str(key(items[-1]))) if more else None)

    def bounded_listing(self, found: Found[Item], key: Callable[[Item], object]) -> Listing[Item]:
        """Make the answer out of what a bounded look found: the cursor goes on where that ended."""
        if len(found.items) > self.limit or found.stopped_at is None:
            return self.listing(found.items, key)
        return Listing(found.items, _encode(str(found.stopped_at)))


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise _not_ours() from None
    if "\0" in text:
        raise _not_ours()
    return text


def _not_ours() -> Invalid:
    return Invalid("This cursor is not one of ours; start again without it.")
