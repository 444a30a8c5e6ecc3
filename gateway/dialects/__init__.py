"""Whose API we speak: one folder per dialect, found by being here.

A dialect serves another product's HTTP API unchanged over the same core. Its folder holds `wire.py` (the product's own
structures, and pure functions from and to ours), `routes.py` (thin handlers), `errors.py` (its envelopes), and in its
`__init__.py` a `dialect = Dialect(...)`. It also needs a folder of golden exchanges under `tests/fixtures/dialects/`.

The guard of a WebSocket is `opt={"guard": needs(...)}`, and its handler calls it: only there a refusal can be answered
over HTTP, in the dialect's own shape.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

import msgspec
from litestar import Router
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from gateway.auth import Guard
from gateway.errors import Envelope, exception_handlers
from schemas.settings import Settings

_TYPE = re.compile(r":\w+\}")  # of a parameter in a path


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One product's API.

    `envelopes` maps patterns of paths (see `gateway.errors.envelope_for`) to the shape of its errors: they cover its
    own routes, and what is beside them (404, 405). Where a setting changes them, `envelopes_under` makes others for the
    same patterns. `open_routes` names those that want no key, such as `GET /api/v1/health`, with the reason.
    """

    name: str
    title: str
    handlers: tuple[BaseRouteHandler, ...]
    envelopes: Mapping[str, Envelope]
    open_routes: Mapping[str, str] = {}
    envelopes_under: Callable[[Settings], Mapping[str, Envelope]] | None = None


class Route(msgspec.Struct, frozen=True, order=True):
    """One route of a dialect, and the smallest role that may call it; None is open."""

    path: str
    method: str
    role: str | None
    summary: str


@cache
def discover() -> Mapping[str, Dialect]:
    """Find all dialects by name."""
    names = [entry.name for entry in pkgutil.iter_modules(__path__) if entry.ispkg]
    return {name: importlib.import_module(f"{__name__}.{name}").dialect for name in names}


def spoken(settings: Settings) -> list[Dialect]:
    """List all dialects as the settings want them."""
    return [
        msgspec.structs.replace(dialect, envelopes=dialect.envelopes_under(settings))
        if dialect.envelopes_under
        else dialect
        for dialect in discover().values()
    ]


def routers(dialects: Iterable[Dialect]) -> list[Router]:
    """Make the routes of dialects; an error in one of them has its own dialect's shape, also where two share a path."""
    return [
        Router(
            "/",
            route_handlers=dialect.handlers,
            exception_handlers=exception_handlers(dialect.envelopes),
            include_in_schema=False,
        )
        for dialect in dialects
    ]


def envelopes(dialects: Iterable[Dialect]) -> dict[str, Envelope]:
    """Put all envelopes together, for paths and methods that no route has; raises ValueError for a pattern of two."""
    found: dict[str, Envelope] = {}
    for dialect in dialects:
        if claimed := found.keys() & dialect.envelopes.keys():
            raise ValueError(f"Dialect {dialect.name} claims {', '.join(sorted(claimed))}, as another one does.")
        found.update(dialect.envelopes)
    return found


def routes(dialect: Dialect) -> list[Route]:
    """List what a dialect serves, sorted by path."""
    return sorted(_routes(dialect))


def _routes(dialect: Dialect) -> Iterator[Route]:
    for handler in dialect.handlers:
        guards = (*(handler.guards or ()), handler.opt.get("guard"))
        role = next((guard.role for guard in guards if isinstance(guard, Guard)), None)
        methods = handler.http_methods if isinstance(handler, HTTPRouteHandler) else {"WEBSOCKET"}
        summary = (handler.fn.__doc__ or "").partition("\n")[0]
        for path in handler.paths:
            for method in methods:
                yield Route(_TYPE.sub("}", path), method, role and role.value, summary)
