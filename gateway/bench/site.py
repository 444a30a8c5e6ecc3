"""A Penstock of the bench's own: fresh servers, the bench's pipelines, roles as processes, and no trace afterwards."""

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import migrations
from gateway import embedded
from gateway.bench.load import Load, Measured
from gateway.bench.processes import READY_WITHIN_S, Program, ask_program
from gateway.cli.client import Client, path, read_json
from gateway.cli.environment import answers
from gateway.cli.up import claim_port
from gateway.embedded import EmbeddedServers
from schemas.errors import PenstockError
from schemas.settings import PREFIX

Say = Callable[[str], None]

# Written to the bench's directory. `begun` is logged with the clock's time at the first line of the block;
# `talk` waits for a file.
PIPELINES = """
import os
import time

import msgspec

from runner import Run, pipeline

noop = pipeline("noop")
stamped = pipeline("stamped")
interrupted = pipeline("interrupted")


class Talk(msgspec.Struct):
    seconds: float = 1.0
    per_second: int = 100
    signal: str = ""


talkative = pipeline("talkative", params=Talk)


@noop.block
def first() -> None:
    pass


@noop.block
def second(first: None) -> None:
    pass


@stamped.block
def stamp(run: Run) -> None:
    run.log.info("begun", at=time.time())


@interrupted.block
def before() -> None:
    pass


@interrupted.block
def after(run: Run, before: None) -> None:
    run.log.info("begun", at=time.time(), runner=os.getppid())
    if run.attempt == 1:
        time.sleep(60)


@talkative.block
def talk(run: Run[Talk]) -> None:
    while not os.path.exists(run.params.signal):
        time.sleep(0.01)
    begun = time.monotonic()
    for number in range(round(run.params.seconds * run.params.per_second)):
        time.sleep(max(0.0, begun + number / run.params.per_second - time.monotonic()))
        run.log.info(f"line {number}")
"""


class Site:
    """What the measurements work with."""

    def __init__(self, folder: Path, servers: EmbeddedServers, stack: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.servers = servers
        self.port = claim_port("127.0.0.1", 0)
        self.key = f"psk_{secrets.token_hex(20)}"
        self.client = Client(f"http://127.0.0.1:{self.port}", self.key)
        self._stack = stack
        self._started = 0
        chosen = {
            "database_url": servers.database_url,
            "redis_url": servers.redis_url,
            "port": str(self.port),
            "admin_key": self.key,
            "pipelines": str(folder / "pipelines"),
            "log_format": "json",
        }
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environ |= {PREFIX + name.upper(): value for name, value in chosen.items()}

    async def prepare(self) -> Self:
        """Make the database and the pipelines directory."""
        (self.folder / "pipelines").mkdir()
        (self.folder / "pipelines" / "bench.py").write_text(PIPELINES)
        await migrations.apply(self.servers.database_url)
        return self

    async def start_gateway(self) -> Program:
        """Start the gateway, and have a runner publish the pipelines once."""
        gateway = await self.start_server("gateway", "gateway", port=self.port, ready="/health/ready")
        runner = await self.start_runner()
        await runner.stop()
        return gateway

    async def start_server(self, *arguments: str, port: int, ready: str | None = None) -> Program:
        """Start a server on a port and wait until it listens and, if given, answers 200 at the path `ready`."""
        program = await self._start(*arguments, port=port)
        await program.until_it_says('"listening"')
        if ready is not None:
            await self._until(lambda: answers(f"http://127.0.0.1:{port}", ready), "the gateway is ready")
        return program

    async def start_runner(self) -> Program:
        """Start a runner and wait until it takes runs."""
        runner = await self._start("runner")
        await runner.until_it_says("runner is ready")
        return runner

    async def start_asked(self, *arguments: str) -> Program:
        """Start a program that answers questions."""
        program = Program(*arguments, environ=os.environ, log=self._log(arguments[0]), answers=True)
        return await self._stack.enter_async_context(program)

    async def call(self, method: str, *segments: str, query: dict[str, Any] | None = None, body: Any = None) -> Any:
        """Call the API under `/v1`."""
        return await asyncio.to_thread(self.client.request, method, path(*segments), query=query, body=body)

    async def hook(self, pipeline_id: str, **fields: Any) -> str:
        """Create a schedule with a token, and return the path to POST to; its second segment is the schedule."""
        schedule = await self.call(
            "POST", "schedules", body={"pipeline_id": pipeline_id, "name": "bench", "kind": "api"} | fields
        )
        token = await self.call("POST", "schedules", schedule["id"], "tokens", body={})
        return str(urlsplit(token["url"]).path)

    async def deliver(self, hook: str) -> str:
        """Deliver once, and return the id of the run that came of it."""
        answer = await asyncio.to_thread(
            self.client.deliver, f"http://127.0.0.1:{self.port}{hook}", b"{}", {"Content-Type": "application/json"}
        )
        if answer.status != 202:
            raise self.client.problem(answer)
        return str(read_json(answer.content, self.client.origin)["runs"][0]["id"])

    async def load(self, load: Load) -> Measured:
        """Have the load generator send; raises PenstockError unless everything was accepted."""
        log = self._log("load")
        measured = await ask_program(load, Measured, "gateway.bench.load", log=log)
        if not measured.accepted or set(measured.statuses) != {"202"}:
            raise PenstockError(f"not every delivery was accepted: {measured.statuses}")
        return measured

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Call `condition`, which may block, until it is true; raises PenstockError when that takes too long."""
        deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
        while not await asyncio.to_thread(condition):
            if asyncio.get_running_loop().time() > deadline:
                raise PenstockError(f"waited in vain until {what}")
            await asyncio.sleep(0.02)

    async def _start(self, *arguments: str, port: int | None = None) -> Program:
        environ = self._environ | ({} if port is None else {f"{PREFIX}PORT": str(port)})
        program = Program(*arguments, environ=environ, log=self._log(arguments[0]))
        return await self._stack.enter_async_context(program)

    def _log(self, name: str) -> Path:
        self._started += 1
        return self.folder / f"{name}-{self._started}.log"


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Start Postgres and Redis in a temporary directory; at the end everything is stopped and gone."""
    with (
        tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as folder,
        embedded.running(Path(folder) / "data") as servers,
    ):
        async with contextlib.AsyncExitStack() as stack:
            yield await Site(Path(folder), servers, stack).prepare()
