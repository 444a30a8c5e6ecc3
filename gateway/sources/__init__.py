"""Who sends: one file per source, found by being here.

A source is a module-level `source = Source(...)` in a file of its own, made of pure functions over one request: no I/O,
no clock but the one it is given. It also needs a folder of captured requests under `tests/fixtures/sources/`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache

import msgspec

from schemas.schedules import SourceConfig


class Incoming(msgspec.Struct, frozen=True):
    """One request as it came: header names in lower case, the body untouched."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source can tell of a delivery; a handshake is answered and stored, but never becomes a run."""

    event_type: str | None = None
    delivery_id: str | None = None
    handshake: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of sender proves itself and names what it sends.

    `verify` raises BadSignature and nothing else; it runs over the raw bytes, before anything is parsed.
    """

    name: str
    title: str
    needs_secret: bool
    verify: Callable[[Incoming, SourceConfig], None]
    read: Callable[[Incoming], Facts]


@cache
def discover() -> Mapping[str, Source]:
    """Find all sources by name."""
    modules = [importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return {module.source.name: module.source for module in modules}
