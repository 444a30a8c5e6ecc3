"""`/v1/runs/{id}/...`: what people do to a run that exists."""

from litestar import Response, post
from litestar.params import FromPath

from gateway.auth import needs
from gateway.bodies import read_json
from gateway.core import Core
from gateway.handling import AnyRequest, TheCaller, TheCore
from schemas.runs import Mark, Repetition, Resumption, Run
from schemas.states import Role


@post("/v1/runs/{run:str}/cancel", guards=[needs(Role.OPERATOR)], status_code=202)
async def cancel_run(run: FromPath[str], core: TheCore, caller: TheCaller) -> Response[Run]:
    """Cancel a run: at once when it is queued, else as soon as its blocks let go."""
    return Response(await core.control.cancel(run, caller), status_code=202)


@post("/v1/runs/{run:str}/resume", guards=[needs(Role.OPERATOR)], opt={"body": Resumption}, status_code=202)
async def resume_run(run: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Response[Run]:
    """Go on where a failed or cancelled run ended, as a new run that skips what succeeded."""
    resumption = await read_json(request, Resumption, limit=core.settings.body_limit, default=Resumption())
    return _begun(core, await core.control.resume(run, resumption, caller))


@post("/v1/runs/{run:str}/rerun", guards=[needs(Role.OPERATOR)], opt={"body": Repetition}, status_code=202)
async def rerun_run(run: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Response[Run]:
    """Repeat an ended run whole, with its variables or with others, as a new run for the same event."""
    repetition = await read_json(request, Repetition, limit=core.settings.body_limit, default=Repetition())
    return _begun(core, await core.control.rerun(run, repetition, caller))


@post("/v1/runs/{run:str}/mark", guards=[needs(Role.OPERATOR)], opt={"body": Mark}, status_code=200)
async def mark_run(run: FromPath[str], request: AnyRequest, core: TheCore, caller: TheCaller) -> Run:
    """Say by hand that a run succeeded or failed, whatever it is; what executes of it is stopped."""
    return await core.control.mark(run, await read_json(request, Mark, limit=core.settings.body_limit), caller)


def _begun(core: Core, run: Run) -> Response[Run]:
    return Response(run, status_code=202, headers={"location": core.urls.run(run.id)})


handlers = [cancel_run, resume_run, rerun_run, mark_run]
