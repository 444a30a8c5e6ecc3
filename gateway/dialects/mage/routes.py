"""Mage's routes, and its login."""

from typing import Any

import msgspec
from litestar import post

from gateway import credentials
from gateway.bodies import read_json
from gateway.dialects.mage import runs, schedules, triggers
from gateway.dialects.mage.errors import wrong_login
from gateway.handling import AnyRequest, TheCore


class Login(msgspec.Struct, frozen=True):
    """Who logs in: any e-mail or name, with one of our keys as the password."""

    password: str = ""


class Session(msgspec.Struct, frozen=True):
    """The body of a login; Mage's constant `api_key` may be beside it."""

    session: Login = Login()


@post("/api/sessions", status_code=200)
async def create_session(request: AnyRequest, core: TheCore) -> dict[str, Any]:
    """Take a key as the password, of any user, and give it back as the token: both are the same here."""
    login = (await read_json(request, Session, limit=core.settings.body_limit)).session
    caller = await core.registry.caller(credentials.digest(login.password))
    if caller is None:
        raise wrong_login()
    user = {"username": caller.name, "roles_display": caller.role}
    return {"session": {"token": login.password, "expires": None, "user": user}}


handlers = (create_session, *triggers.handlers, *runs.handlers, *schedules.handlers)
