"""Requests for a WebSocket before it is open, and how those are answered that do not get one."""

from typing import Any

from litestar import Response, WebSocket
from litestar.exceptions import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from gateway.urls import Urls

OVERLOADED = 1013
GONE = (ClientDisconnected, WebSocketDisconnect)
AnySocket = WebSocket[Any, Any, Any]


def is_foreign_page(socket: AnySocket, urls: Urls) -> bool:
    """Say whether a page of a browser asks (RFC 6454, section 7) that does not come from here."""
    return bool(socket.headers.get("origin", urls.origin) != urls.origin)


async def refuse(socket: AnySocket, answer: Response[bytes]) -> None:
    """Answer over HTTP, since nothing was upgraded yet."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-type", str(answer.media_type).encode()))
    await socket.receive()
    send: Any = socket.send
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.content})


async def send_frames(socket: AnySocket, ready: bytes) -> None:
    """Send frames as they are, see `gateway/websocket_edge.py`; raises one of GONE."""
    message: Any = {"type": "websocket.send", "frames": ready}
    await socket.send(message)
