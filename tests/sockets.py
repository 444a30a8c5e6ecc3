"""WebSockets as peers open them: by a library, or by hand."""

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system import KEY, Json, Penstock

BEARER = {"authorization": f"Bearer {KEY}"}


@contextlib.asynccontextmanager
async def opened(
    base: str, query: str = "", *, path: str = "/v1/ws", **options: Any
) -> AsyncIterator[ClientConnection]:
    """Open a socket at a gateway, with the key in a header unless other headers are given."""
    options = {"additional_headers": BEARER, "proxy": None, "max_size": None} | options
    async with connect(base.replace("http", "ws", 1) + path + query, **options) as ws:
        yield ws


async def say(ws: ClientConnection, **message: Any) -> None:
    await ws.send(json.dumps(message))


async def hear(ws: ClientConnection) -> Json:
    async with asyncio.timeout(20):
        return dict(json.loads(await ws.recv()))


async def told(ws: ClientConnection, *, until: str = "end") -> list[Json]:
    """Listen until a message of this type."""
    heard = []
    while not heard or heard[-1]["type"] != until:
        heard.append(await hear(ws))
    return heard


async def closed(ws: ClientConnection) -> tuple[int, str]:
    """Listen until the other side closes, and say how."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await ws.recv()
    assert ws.close_code is not None
    return ws.close_code, ws.close_reason or ""


def narrow(port: int) -> socket.socket:
    """Connect over a socket that holds little of what nobody reads."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.connect(("127.0.0.1", port))
    return plug


@contextlib.asynccontextmanager
async def raw_socket(
    penstock: Penstock, query: str = ""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a WebSocket by hand, from which nobody reads on."""
    reader, writer = await asyncio.open_connection(sock=narrow(penstock.port), limit=4096)
    lines = (
        f"GET /v1/ws{query} HTTP/1.1", "host: x", "upgrade: websocket", "connection: upgrade",
        "sec-websocket-version: 13", f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}",
        f"authorization: Bearer {KEY}", "", "",
    )  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    try:
        yield reader, writer
    finally:
        writer.close()
