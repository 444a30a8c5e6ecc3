"""`/v1/pipelines/{id}/dry-run`: a pipeline on its first rows, of which nothing is kept."""

from litestar import Response, post
from litestar.params import FromPath

from gateway.auth import needs
from gateway.bodies import read_json
from gateway.handling import AnyRequest, TheCore, listening
from gateway.prefer import LONGEST_WAIT_S, wait_s
from schemas.dry_runs import DryResult, DryRun
from schemas.states import Role


@post(
    "/v1/pipelines/{pipeline_id:str}/dry-run",
    guards=[needs(Role.OPERATOR)],
    opt={"body": DryRun, "answers": {200: (DryResult, "What each block did")}},
    status_code=200,
)
async def dry_run(pipeline_id: FromPath[str], request: AnyRequest, core: TheCore) -> Response[DryResult]:
    """Execute a pipeline on the first rows of each table, and show what each block returns."""
    asked = await read_json(request, DryRun, limit=core.settings.body_limit, default=DryRun())
    within_s = wait_s(request.headers.get("prefer", "")) or LONGEST_WAIT_S
    async with listening(request) as hung_up:
        return Response(await core.dry_runs.execute(pipeline_id, asked, within_s=within_s, hung_up=hung_up))


handlers = [dry_run]
