"""Who may call `/v1`: an API key as a Bearer, whose role must cover what the handler needs."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.handlers import BaseRouteHandler

from gateway import credentials
from schemas.errors import Forbidden, Unauthenticated
from schemas.keys import Caller
from schemas.states import Role

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def needs(role: Role) -> Guard:
    """Make a guard that lets only callers in whose role covers `role`.

    It raises Unauthenticated without a valid key and Forbidden with too small a role. Whom it lets in is the `caller`
    of the handler.
    """

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        caller = await identify(connection)
        if not caller.role.covers(role):
            raise Forbidden(f"This needs the role {role}; the key {caller.name!r} has the role {caller.role}.")
        connection.scope["state"]["caller"] = caller

    return guard


def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    """Give a handler whom its guard let in."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def identify(connection: Connection) -> Caller:
    """Find who calls; raises Unauthenticated."""
    caller = await connection.app.state.core.registry.caller(credentials.digest(_bearer(connection)))
    if caller is None:
        raise Unauthenticated("This API key is not known, or was revoked.")
    found: Caller = caller
    return found


def _bearer(connection: Connection) -> str:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated
    return key.strip()
