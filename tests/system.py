"""A whole Penstock on this machine, out of real processes, and a client that speaks to it like its users do."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.waiting import eventually

KEY = "psk_admin-key-of-the-tests"
TERMINAL = {"success", "failed", "cancelled"}
Json = dict[str, Any]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One role as a process of its own; what it says goes to a file."""

    def __init__(self, role: str, environ: Mapping[str, str], *, log: Path) -> None:
        module = ["-m", "runner"] if role == "runner" else ["-m", "gateway", role]
        self.role = role
        self.log_path = log
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-P", *module], env=dict(environ), stdout=file, stderr=file, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM, *, within: float = 15) -> int:
        """Send a signal and return the exit code."""
        if self.is_alive:
            self.send(number)
        return await asyncio.to_thread(self.popen.wait, within)

    def kill(self) -> None:
        """End it, however it ends."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait(10)


class Penstock:
    """Gateways and runners over one database and one Redis; all end with the `async with`."""

    def __init__(
        self, *, database_url: str, redis_url: str, directory: Path, pipelines: Path, **settings: object
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        chosen = {
            "database_url": database_url,
            "redis_url": redis_url,
            "redis_prefix": f"test{time.monotonic_ns()}",
            "pipelines": pipelines,
            "data": directory / "data",
            "admin_key": KEY,
            "secret_keys": "first-key,second-key",
            "log_format": "json",
            "hosts": 2,
        } | settings
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self.environ |= {f"PENSTOCK_{name.upper()}": str(value) for name, value in chosen.items()}
        self.environ["PENSTOCK_PORT"] = str(self.port)
        self.processes: list[Process] = []
        self.client = httpx.AsyncClient(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        await self.client.aclose()
        for process in self.processes:
            process.kill()

    async def start_gateway(self, **settings: object) -> Process:
        """Start a gateway and wait until it is ready."""
        process = self.begin("gateway", **settings)
        port = settings.get("port", self.port)
        await eventually(lambda: self._is_ready(process, f"http://127.0.0.1:{port}"), timeout=20)
        return process

    async def start_runner(self, **settings: object) -> Process:
        """Start a runner and wait until it is ready."""
        process = self.begin("runner", **settings)
        await eventually(lambda: self._has_said(process, "runner is ready"), timeout=20)
        return process

    async def start(self, **settings: object) -> tuple[Process, Process]:
        """Start a gateway and a runner at the same time."""
        return await asyncio.gather(self.start_gateway(**settings), self.start_runner(**settings))

    def begin(self, role: str, **settings: object) -> Process:
        """Start a role without waiting for it."""
        environ = self.environ | {f"PENSTOCK_{name.upper()}": str(value) for name, value in settings.items()}
        process = Process(role, environ, log=self.directory / f"{role}-{len(self.processes)}.log")
        self.processes.append(process)
        return process

    async def _is_ready(self, process: Process, url: str) -> bool:
        assert process.is_alive, process.log
        with contextlib.suppress(httpx.TransportError):
            return (await self.client.get(f"{url}/health/ready")).status_code == 200
        return False

    @staticmethod
    def _has_said(process: Process, words: str) -> bool:
        assert process.is_alive, process.log
        return words in process.log

    async def schedule(self, pipeline_id: str = "quick", **fields: object) -> Json:
        """Create a schedule."""
        answer = await self.client.post("/v1/schedules", json={"pipeline_id": pipeline_id, "name": "test"} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def hook(self, pipeline_id: str = "quick", **fields: object) -> str:
        """Create a schedule with a token and return the token's URL."""
        schedule = await self.schedule(pipeline_id, **fields)
        answer = await self.client.post(f"/v1/schedules/{schedule['id']}/tokens")
        assert answer.status_code == 201, answer.text
        return str(answer.json()["url"])

    async def deliver(self, hook: str, body: bytes | str = b"{}", **headers: str) -> httpx.Response:
        """Send a delivery as an outside system does: without an API key. `x_y` names the header `x-y`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(timeout=30, trust_env=False) as sender:
            return await sender.post(hook, content=body, headers=named)

    async def run(self, run_id: str) -> Json:
        """Read a run."""
        answer = await self.client.get(f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ended(self, run_id: str, *, timeout: float = 20) -> Json:  # noqa: ASYNC109
        """Wait until a run has ended, and read it."""

        async def has_ended() -> Json | None:
            run = await self.run(run_id)
            return run if run["state"] in TERMINAL else None

        found: Json = await eventually(has_ended, timeout=timeout)
        return found

    async def delivered_run(self, hook: str, body: bytes | str = b"{}", **headers: str) -> str:
        """Deliver, and return the id of the run that it became."""
        answer = await self.deliver(hook, body, **headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["runs"][0]["id"])

    async def events(self, path: str, *, last_event_id: str | None = None) -> AsyncIterator[Json]:
        """Read a stream as {"event", "id", "data"} until the server ends it; comments are left out."""
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        async with self.client.stream("GET", path, headers=headers, timeout=60) as answer:
            assert answer.status_code == 200, await answer.aread()
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line == "":
                    if "data" in fields:
                        yield {"event": fields["event"], "id": fields.get("id"), "data": json.loads(fields["data"])}
                    fields = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
