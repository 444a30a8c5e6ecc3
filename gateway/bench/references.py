"""What the gateway is compared with: `python -P -m gateway.bench.references bare|single TOKEN`, settings as usual.

`bare` looks the token up, reads the JSON and answers 202: what Litestar costs before anything is stored. `single` also
commits event and run, one statement per request over ten connections: what one would write first. Both are served by
`gateway/server.py` like the gateway itself.
"""

import hashlib
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from litestar import Litestar, Request, Response, post
from litestar.params import FromPath

from gateway.draining import Draining
from gateway.server import serve
from schemas.ids import new_id
from schemas.settings import Settings, load

POOL = 10
_INSERT = """
WITH event AS (
    INSERT INTO events (id, schedule_id, source, verdict, content_type, kind, headers, body, size)
    VALUES ($1, $2, 'generic', 'accepted', 'application/json', 'json', '{}', $4, length($4::bytea))
)
INSERT INTO runs (id, pipeline_id, schedule_id, event_id) VALUES ($3, 'noop', $2, $1)
"""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
AnyRequest = Request[Any, Any, Any]


def create_bare_app(_settings: Settings, _draining: Draining) -> Litestar:
    """Build the application that stores nothing."""
    schedules = _schedules()

    @post("/hooks/{schedule:str}/{token:str}", status_code=202)
    async def accept(schedule: FromPath[str], token: FromPath[str], request: AnyRequest) -> Response[bytes]:
        if schedules.get(hashlib.sha256(token.encode()).digest()) is None:
            return _not_found()
        _decode(await request.body())
        return _accepted(schedule, new_id())

    return Litestar([accept], openapi_config=None, logging_config=None)


def create_single_app(settings: Settings, _draining: Draining) -> Litestar:
    """Build the application that commits each request by itself."""
    schedules = _schedules()
    pools: list[asyncpg.Pool] = []

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with asyncpg.create_pool(settings.database_url, min_size=POOL, max_size=POOL) as pool:
            pools.append(pool)
            yield

    @post("/hooks/{schedule:str}/{token:str}", status_code=202)
    async def accept(schedule: FromPath[str], token: FromPath[str], request: AnyRequest) -> Response[bytes]:
        schedule_id = schedules.get(hashlib.sha256(token.encode()).digest())
        if schedule_id is None:
            return _not_found()
        body = await request.body()
        _decode(body)
        run_id = new_id()
        await pools[0].execute(_INSERT, new_id(), schedule_id, run_id, body)
        return _accepted(schedule, run_id)

    return Litestar([accept], lifespan=[lifespan], openapi_config=None, logging_config=None)


def _schedules() -> dict[bytes, uuid.UUID]:
    return {hashlib.sha256(sys.argv[2].encode()).digest(): new_id()}


def _accepted(schedule: str, run_id: uuid.UUID) -> Response[bytes]:
    answer = b'{"status":"accepted","runs":[{"id":"%b"}]}' % str(run_id).encode()
    return Response(
        answer, status_code=202, media_type="application/json", headers={"location": f"/v1/schedules/{schedule}"}
    )


def _not_found() -> Response[bytes]:
    return Response(b'{"status":404}', status_code=404, media_type="application/json")


if __name__ == "__main__":
    serve(load(), {"bare": create_bare_app, "single": create_single_app}[sys.argv[1]])
