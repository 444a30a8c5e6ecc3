"""`/v1/runs/{id}/blocks/{block}`: what a block returned, as a preview, a profile or a file."""

import asyncio
from collections.abc import AsyncIterator

from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.api.query import Query
from gateway.auth import needs
from gateway.handling import AnyRequest, TheCore
from gateway.outputs import Download, Form
from schemas.profiles import ShownPreview, ShownProfile
from schemas.states import Role

_CHUNK = 256 << 10


@get("/v1/runs/{run:str}/blocks/{block:str}/preview", guards=[needs(Role.VIEWER)], opt={"query": ("map_index",)})
async def preview_output(
    run: FromPath[str], block: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[ShownPreview]:
    """Show the first fifty rows of what a block returned, or the value when it is no table."""
    return Response(await core.outputs.preview(run, block, Query(request).integer("map_index")))


@get("/v1/runs/{run:str}/blocks/{block:str}/profile", guards=[needs(Role.VIEWER)], opt={"query": ("map_index",)})
async def profile_output(
    run: FromPath[str], block: FromPath[str], request: AnyRequest, core: TheCore
) -> Response[ShownProfile]:
    """Describe the columns of the table that a block returned, and their drift from the previous run."""
    return Response(await core.outputs.profile(run, block, Query(request).integer("map_index")))


@get(
    "/v1/runs/{run:str}/blocks/{block:str}/output",
    guards=[needs(Role.VIEWER)],
    opt={"query": ("format", "map_index")},
    media_type="application/octet-stream",
)
async def download_output(run: FromPath[str], block: FromPath[str], request: AnyRequest, core: TheCore) -> Stream:
    """Download what a block returned: as JSON, or a table as Parquet or Arrow."""
    query = Query(request)
    form = query.choice("format", Form) or Form.JSON
    found = await core.outputs.download(run, block, query.integer("map_index"), form)
    return Stream(
        _chunks(found),
        media_type=form.media_type,
        headers={
            "content-disposition": f'attachment; filename="{found.name}"',
            "content-length": str(found.size),
        },
    )


async def _chunks(download: Download) -> AsyncIterator[bytes]:
    with download.file as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


handlers = [preview_output, profile_output, download_output]
