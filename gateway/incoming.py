"""One request as it came, with all that pure functions may know while they judge it."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from schemas import payload
from schemas.errors import Malformed


class Unwrapped(msgspec.Struct, frozen=True):
    """What a body holds that wraps its payload: variables that its sender sets, and the JSON of `event_variables`.

    Without a `payload` the whole body becomes `event_variables`.
    """

    variables: dict[str, Any] = {}
    payload: bytes | None = None


Unwrap = Callable[[bytes], Unwrapped]


class Incoming(msgspec.Struct, frozen=True, dict=True):
    """A request: header names in lower case, the body untouched.

    `url` is the whole address that the sender called, as `PENSTOCK_PUBLIC_URL` says it, without our own token when that
    came in the query. `now` is the database's clock in seconds since 1970. `documents` are what the scheme asked to be
    fetched (certificates, key sets), by their URLs. `unwrap` reads the body of a product that wraps payloads; it raises
    Malformed.
    """

    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"
    url: str = ""
    query: Mapping[str, str] = {}
    now: float = 0.0
    documents: Mapping[str, bytes] = {}
    unwrap: Unwrap | None = None

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()

    @cached_property
    def document(self) -> Any:
        """The body as a value, or None when it cannot be read as what it is declared to be."""
        try:
            kind = payload.classify(self.body, self.content_type)
        except Malformed:
            return None
        try:
            return payload.decode(kind, self.body, content_type=self.content_type, url="")
        except RecursionError:
            return None

    def at(self, *path: str) -> str | None:
        """Read the text or the whole number at a place in the document, as `text_at` does."""
        return text_at(self.document, *path)

    def posted_from(self, parameter: str) -> "Incoming | None":
        """Make a POST of JSON of a GET that carries its body in the query; None when it does not."""
        body = self.query.get(parameter)
        if self.method != "GET" or not body:
            return None
        headers = {**self.headers, "content-type": "application/json"}
        return msgspec.structs.replace(self, method="POST", headers=headers, body=body.encode("utf-8", "replace"))


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One of several things that came in one delivery, when the schedule splits them.

    `payload` is any JSON value: the `event_variables` of its run. `id` makes it unique among the items of the schedule,
    also over deliveries that overlap; without one only the delivery as a whole is unique.
    """

    payload: Any
    id: str | None = None
    event_type: str | None = None


def text_at(value: Any, *path: str) -> str | None:
    """Read the text or the whole number below the names of `path`; None when there is none that can be stored."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value and "\0" not in value else None
