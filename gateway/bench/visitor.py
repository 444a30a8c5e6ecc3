"""A sender and watcher with two open connections: it delivers, follows the run to its end, and reads the clock.

Plain blocking sockets, because a client library's own time would be most of what is measured.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from schemas.errors import PenstockError

PATIENCE_S = 20.0
_BODY = b'{"hello": "bench"}'
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Visit(msgspec.Struct, frozen=True):
    """What one delivery took: seconds from the first byte sent to the 202, and to the stream's `end`."""

    run_id: str
    accepted_s: float
    ended_s: float


class _Run(msgspec.Struct):
    id: str
    stream_url: str


class _Answer(msgspec.Struct):
    runs: list[_Run]


class Visitor:
    """Delivers to one hook, one delivery after another."""

    def __init__(self, port: int, hook: str, key: str) -> None:
        body = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
        self._delivery = f"POST {hook} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n".encode() + body
        self._rest_of_get = f" HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n\r\n".encode()
        self._senders = [_connect(port), _connect(port)]

    def visit(self) -> Visit:
        """Deliver once and follow the run to its end; raises PenstockError when it is not accepted or never ends."""
        poster, watcher = self._senders
        begun = time.perf_counter()
        poster.sendall(self._delivery)
        head, body = _receive_answer(poster)
        accepted_s = time.perf_counter() - begun
        if not head.startswith(b"HTTP/1.1 202"):
            raise PenstockError(f"a delivery was answered with {head[:40]!r}")
        run = msgspec.json.decode(body, type=_Answer).runs[0]
        watcher.sendall(b"GET " + urlsplit(run.stream_url).path.encode() + self._rest_of_get)
        _receive_until(watcher, b"event: end\n")
        return Visit(run.id, accepted_s, time.perf_counter() - begun)

    def close(self) -> None:
        """Close both connections."""
        for sender in self._senders:
            sender.close()


def visits(visitor: Visitor, *, seconds: float, pause_s: float) -> list[Visit]:
    """Visit for some seconds, with a pause before each visit in which everything comes to rest."""
    made: list[Visit] = []
    with contextlib.closing(visitor):
        visitor.visit()  # the first of its schedule has to look everything up
        until = time.monotonic() + seconds
        while not made or time.monotonic() < until:
            time.sleep(pause_s)
            made.append(visitor.visit())
    return made


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    for data in _chunks(connection):
        received += data
        head, blank, body = received.partition(b"\r\n\r\n")
        if blank and len(body) >= int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return head, body
    raise PenstockError("the gateway hung up")


def _receive_until(connection: socket.socket, words: bytes) -> None:
    """Read a chunked answer to its end, which must hold these words."""
    received = b""
    for data in _chunks(connection):
        received += data
        if received.endswith(_LAST_CHUNK):
            break
    if words not in received:
        raise PenstockError(f"a stream did not bring {words!r}: {received[-200:]!r}")


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(65536):
        yield data
