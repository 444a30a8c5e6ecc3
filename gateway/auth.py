"""Who calls: an API key, whose role must cover what the handler needs.

`/v1` reads the key as a Bearer. A dialect names with `Keys` where its product's clients put theirs; everything else is
the same for all.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from gateway import credentials
from gateway.bodies import keep_body
from gateway.errors import UnknownCaller
from schemas.errors import Forbidden
from schemas.keys import Caller
from schemas.states import Role

Connection = ASGIConnection[Any, Any, Any, Any]
ReadKey = Callable[[Connection], Awaitable[str | None]]
LARGEST_BODY_WITH_KEY = 1 << 20


class Keys(msgspec.Struct, frozen=True):
    """Where an API looks for keys, in this order, and the challenge of its 401 (RFC 9110, section 11.6.1)."""

    readers: tuple[ReadKey, ...]
    challenge: str = "Bearer"


async def bearer(connection: Connection) -> str | None:
    """Read `Authorization: Bearer KEY`."""
    return _authorization(connection, "bearer")


async def basic_password(connection: Connection) -> str | None:
    """Read the password of `Authorization: Basic` (RFC 7617); the user name may be any."""
    encoded = _authorization(connection, "basic")
    try:
        pair = base64.b64decode(encoded or "", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return pair.partition(":")[2] or None


def header(name: str) -> ReadKey:
    """Read a header that holds the key and nothing else."""

    async def read(connection: Connection) -> str | None:
        return connection.headers.get(name, "").strip() or None

    return read


def parameter(name: str) -> ReadKey:
    """Read a parameter of the query string. It reaches no log of ours; those of proxies are another matter."""

    async def read(connection: Connection) -> str | None:
        return connection.query_params.get(name) or None

    return read


def member(name: str) -> ReadKey:
    """Read a member of the JSON object that is the body; the handler still gets the whole body."""

    async def read(connection: Connection) -> str | None:
        if not isinstance(connection, Request):
            return None
        body = await keep_body(connection, LARGEST_BODY_WITH_KEY)
        try:
            found = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get(name)
            return None if found is None else msgspec.json.decode(found, type=str) or None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    return read


BEARER = Keys((bearer,))


class Guard:
    """Lets only callers in whose role covers `role`; made by `needs`."""

    def __init__(self, role: Role, keys: Keys) -> None:
        self.role = role
        self._keys = keys

    async def __call__(self, connection: Connection, _handler: BaseRouteHandler) -> None:
        caller = await identify(connection, self._keys)
        if not caller.role.covers(self.role):
            raise Forbidden(f"This needs the role {self.role}; the key {caller.name!r} has the role {caller.role}.")
        connection.scope["state"]["caller"] = caller


def needs(role: Role, keys: Keys = BEARER) -> Guard:
    """Make a guard that lets only callers in whose role covers `role`.

    It raises UnknownCaller without a valid key and Forbidden with too small a role. Whom it lets in is the `caller` of
    the handler.
    """
    return Guard(role, keys)


def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    """Give a handler whom its guard let in."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


async def identify(connection: Connection, keys: Keys = BEARER) -> Caller:
    """Find who calls: the first key that is found and known counts; raises UnknownCaller."""
    has_key = False
    for read in keys.readers:
        key = await read(connection)
        if key is None:
            continue
        has_key = True
        caller: Caller | None = await connection.app.state.core.registry.caller(credentials.digest(key))
        if caller is not None:
            return caller
    raise UnknownCaller(has_key=has_key, challenge=keys.challenge)


def _authorization(connection: Connection, wanted: str) -> str | None:
    scheme, _, credential = connection.headers.get("authorization", "").partition(" ")
    return credential.strip() or None if scheme.lower() == wanted else None
