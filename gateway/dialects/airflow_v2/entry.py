"""What every client of Airflow 3 asks first: for a token, for the version, for the health."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import get, post

from gateway import credentials
from gateway.airflow.health import health
from gateway.bodies import decode_json, read_body
from gateway.core import Core
from gateway.dialects.airflow_v2.errors import refuse_value
from gateway.errors import Refused
from gateway.handling import AnyRequest, TheCore
from schemas.errors import Invalid

VERSION = "3.3.2+penstock"  # the newest API that this is compared with
LARGEST_LOGIN = 10_000


class Token(msgspec.Struct, frozen=True):
    """The answer to a login."""

    access_token: str


class Version(msgspec.Struct, frozen=True):
    """Which Airflow this speaks like."""

    version: str = VERSION
    git_version: str | None = None


@post("/auth/token", status_code=201)
async def create_token(request: AnyRequest, core: TheCore) -> Token:
    """Take a key as the password, of any user, and give it back as the token: both are the same here."""
    return await _log_in(request, core)


@post("/auth/token/cli", status_code=201)
async def create_token_cli(request: AnyRequest, core: TheCore) -> Token:
    """Do the same for Airflow's command line."""
    return await _log_in(request, core)


@get("/api/v2/version")
async def get_version() -> Version:
    """Say which Airflow's API this is."""
    return Version()


@get("/api/v2/monitor/health")
async def get_health(core: TheCore) -> dict[str, Any]:
    """Say whether the database answers and a runner is alive, in the places of Airflow's parts."""
    return await health(core)


async def _log_in(request: AnyRequest, core: Core) -> Token:
    username, password = await _credentials(request)
    for key in (password, username):
        if key and await core.registry.caller(credentials.digest(key)) is not None:
            return Token(key)
    raise Refused("Invalid credentials", status=401, said="Invalid credentials")


async def _credentials(request: AnyRequest) -> tuple[str, str]:
    body = await read_body(request, LARGEST_LOGIN)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        given: dict[str, Any] = dict(parse_qsl(body.decode(errors="replace")))
    else:
        try:
            given = decode_json(body, dict[str, Any])
        except Invalid as error:
            raise refuse_value(f"Invalid login: {error.message}") from None
    found = []
    for name in ("username", "password"):
        if not isinstance(value := given.get(name), str):
            raise refuse_value(f"Invalid login: the field {name} is required and is a text")
        found.append(value)
    return found[0], found[1]


handlers = (create_token, create_token_cli, get_version, get_health)
