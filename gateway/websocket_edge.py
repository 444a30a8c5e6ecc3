"""The guard between a WebSocket and the application: uvicorn's protocol with an end for peers that are gone or hostile.

The request that asks for a WebSocket has passed `gateway/edge.py` already. uvicorn alone closes politely, which never
ends while the peer reads nothing, answers each ping into memory without bound, and stumbles over heads that its
WebSocket library does not read. It also encodes each message for each peer: here frames may come ready-made.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

FRAME_BYTES = 64 * 1024  # of one message from the peer
PING_S = 20.0
PONG_S = 40.0
RESTART = 1012
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """Guard one WebSocket. LINGER_S is how long a peer may take to read the rest, and to say goodbye, after the end."""

    LINGER_S = 5.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.debug = False  # it would log frames, and with them keys
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.conn.send_close(RESTART, "service restart")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": RESTART})
        super().shutdown()
        self._linger()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._linger()

    def handle_ping(self) -> None:
        answer = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(answer)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:  # a line of more than 8 KiB, odd bytes
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._linger()

    async def send(self, message: Any) -> None:
        """Send as ASGI says; the member `frames` of `websocket.send` holds frames that are written as they are.

        Raises ClientDisconnected when nobody is there any more.
        """
        frames = message.get("frames")
        if frames is None:
            await super().send(message)
            if message["type"] == "websocket.accept":
                self._forget_handshake()
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frames)

    def _forget_handshake(self) -> None:
        """Drop some 5 KB of heads, which nobody reads any more."""
        del self.request, self.response
        cast(list[Any], self.scope["headers"]).clear()

    def _linger(self) -> None:
        if self._linger_timer is None and not self.disconnected:
            self._linger_timer = self.loop.call_later(self.LINGER_S, self.transport.abort)
