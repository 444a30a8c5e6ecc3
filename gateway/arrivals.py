"""A request as the ingest takes it: where its token may be, and what else of it may be signed or stored."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from gateway.bodies import read_body
from gateway.core import Core
from gateway.handling import AnyRequest
from gateway.incoming import Unwrap
from gateway.ingest import NO_SUCH_HOOK, Arrival
from gateway.intake import header_map
from schemas.errors import NotFound

TOKEN_HEADER = "x-penstock-token"  # noqa: S105 - a header's name
TOKEN_PARAMETER = "access_token"  # noqa: S105 - RFC 6750, section 2.3, which CloudEvents' Webhook specification asks for


class TokenPlaces(msgspec.Struct, frozen=True):
    """The header, and the parameter of the query, that hold nothing but a token; or it may be in Authorization too."""

    header: str = TOKEN_HEADER
    parameter: str = TOKEN_PARAMETER
    is_authorization: bool = True


OURS = TokenPlaces()


def read_arrival(
    request: AnyRequest,
    core: Core,
    schedule: str | None,
    token: str | None,
    *,
    unwrap: Unwrap | None = None,
    places: TokenPlaces = OURS,
    pipeline_id: str | None = None,
) -> Arrival:
    """Read all of a request but its body; raises NotFound when its token is neither given nor anywhere in it."""
    scope = request.scope
    headers = header_map(scope["headers"])
    query_string = scope["query_string"]
    query = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}

    async def read(limit: int) -> bytes:
        return await read_body(request, limit)

    return Arrival(
        schedule=schedule,
        pipeline_id=pipeline_id,
        token=token or _token_besides_the_path(headers, query, places),
        headers=headers,
        read_body=read,
        method=request.method,
        url=core.urls.called(scope["raw_path"], query_string),
        query=query,
        is_dry_run=query.get("dry_run") == "1",
        unwrap=unwrap,
    )


def _token_besides_the_path(headers: Mapping[str, str], query: dict[str, str], places: TokenPlaces) -> str:
    """Find the token, and take it out of the query so that no one sees it there any more."""
    if token := headers.get(places.header):
        return token
    authorization = headers.get("authorization", "") if places.is_authorization else ""
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credential.strip()
    if scheme.lower() == "basic":
        return _password(credential)
    if token := query.pop(places.parameter, ""):
        return token
    raise NotFound(NO_SUCH_HOOK)


def _password(credential: str) -> str:
    try:
        return base64.b64decode(credential.strip().encode(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError):
        raise NotFound(NO_SUCH_HOOK) from None
