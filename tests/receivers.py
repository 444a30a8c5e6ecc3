"""An outside system that Penstock calls: it keeps what it was sent, and answers what the test wants."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.waiting import eventually


class Received(msgspec.Struct, frozen=True):
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(msgspec.Struct, frozen=True):
    """What is answered; `hang` seconds later."""

    status: int = 204
    headers: dict[str, str] = {}
    body: bytes = b""
    hang: float = 0.0


class Receiver:
    """Listens on a port of its own while the `async with` lasts. `replies` are used up one by one, then it is 204."""

    def __init__(self, answer: Callable[[Received], Reply] | None = None) -> None:
        self.received: list[Received] = []
        self.replies: list[Reply] = []
        self.most_at_once = 0
        self._at_once = 0
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def got(self, count: int, *, within: float = 10) -> list[Received]:
        """Wait until so many requests have come."""
        await eventually(lambda: len(self.received) >= count, timeout=within)
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader)
            self.received.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            reply = self._reply(request)
            await asyncio.sleep(reply.hang)
            self._at_once -= 1
            headers = {"content-length": str(len(reply.body)), "connection": "close"} | reply.headers
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {reply.status} Whatever\r\n{lines}\r\n".encode() + reply.body)
            await writer.drain()
        writer.close()

    def _reply(self, request: Received) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        return self._answer(request) if self._answer is not None else Reply()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.splitlines()
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)
