"""A real uvicorn on a free port, and clients that write bytes as they like."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec
import uvicorn

from gateway.edge import GuardedProtocol
from gateway.server import bind

App = Callable[[Any, Any, Any], Awaitable[None]]


class Answer(msgspec.Struct, frozen=True):
    """One parsed answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextlib.contextmanager
def serving(app: App, protocol: type[GuardedProtocol] = GuardedProtocol, *, keep_alive: int = 65) -> Iterator[int]:
    """Serve `app` in a thread until the block ends; gives the port."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    (listener,) = bind("127.0.0.1", 0)
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def talk(port: int, *chunks: bytes, pause: float = 0.0) -> bytes:
    """Send the chunks with a pause after each, and return all that comes until the server closes."""
    async with connected(port) as (reader, writer):
        sending = asyncio.create_task(send(writer, chunks, pause=pause))
        received = await asyncio.wait_for(read_all(reader), 20)
        sending.cancel()
        return received


async def send(writer: asyncio.StreamWriter, chunks: Iterable[bytes], *, pause: float = 0.0) -> None:
    """Send the chunks until they end or the server hangs up."""
    with contextlib.suppress(OSError):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes; a reset counts as closed."""
    received = b""
    with contextlib.suppress(OSError):
        while part := await reader.read(65_536):
            received += part
    return received


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer that has a Content-Length."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(first.split()[1]), headers, body)


async def parse_answers(received: bytes) -> list[Answer]:
    """Split what a connection gave into its answers."""
    reader = asyncio.StreamReader()
    reader.feed_data(received)
    reader.feed_eof()
    answers = []
    while not reader.at_eof():
        answers.append(await read_answer(reader))
    return answers
