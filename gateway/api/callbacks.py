"""`/v1/callbacks`: whom runs told, how that went, and telling them again."""

import uuid

from litestar import Response, get, post
from litestar.params import FromPath

from gateway.api.query import PAGING, Query, path_id
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from schemas.callbacks import Callback, CallbackState, SigningSecret, ToldCallback
from schemas.pages import Listing
from schemas.states import Role


@get("/v1/callbacks", guards=[needs(Role.VIEWER)], opt={"query": ("run_id", "state", *PAGING)})
async def list_callbacks(request: AnyRequest, core: TheCore) -> Listing[Callback]:
    """List callbacks, newest first; `run_id` is an id or a number."""
    query = Query(request)
    page = query.page()
    run = query.text("run_id")
    found = await core.callbacks.list_page(
        page, run_id=await core.runs.find(run) if run else None, state=query.choice("state", CallbackState)
    )
    return page.listing(found, lambda callback: callback.id)


@get("/v1/callbacks/signing-secrets", guards=[needs(Role.ADMIN)])
async def list_signing_secrets(core: TheCore) -> Listing[SigningSecret]:
    """Show the secrets by which receivers verify callbacks, the newest first; each callback is signed with all."""
    return Listing(core.callbacks.signing_secrets(), None)


@get("/v1/callbacks/{callback:str}", guards=[needs(Role.VIEWER)])
async def get_callback(callback: FromPath[str], core: TheCore) -> ToldCallback:
    """Read a callback with its newest attempts."""
    return await core.callbacks.get(_id(callback))


@post("/v1/callbacks/{callback:str}/resend", guards=[needs(Role.OPERATOR)], status_code=202)
async def resend_callback(callback: FromPath[str], core: TheCore) -> Response[ToldCallback]:
    """Deliver a callback again, now, under the same id."""
    return Response(await core.callbacks.resend(_id(callback)), status_code=202)


def _id(text: str) -> uuid.UUID:
    return path_id(text, "callback")


handlers = [list_callbacks, list_signing_secrets, get_callback, resend_callback]
