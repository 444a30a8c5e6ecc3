"""No request that somebody else named reaches the inside, however its address is written."""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from schemas import outgoing
from schemas.addresses import may_reach, parse_networks
from schemas.errors import SettingsError
from schemas.outgoing import ANSWER_LIMIT, Outgoing, OutgoingFailed, OutgoingRefused

INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]
WRITTEN_STRANGELY = [
    "http://127.1/",
    "http://0x7f.0.0.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://①②⑦.⓪.⓪.①/",
    "http://localhost/",
    "http://localhost./",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://example.com@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
]
NO_HTTP_URL = [
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/_x",
    "ftp://example.com/",
    "/only/a/path",
    "http://",
    "http:///x",
]


class Visited(Exception):
    """A connection was made."""


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every address that a socket is connected to; none is, really."""
    made: list[object] = []

    async def note(_loop: object, _socket: object, address: object) -> None:
        made.append(address)
        raise OSError("not in this test")

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", note)
    return made


def resolver(*answers: Sequence[str]) -> tuple[list[str], Callable[[str, int], Awaitable[Sequence[str]]]]:
    """A resolver that gives one answer after the other, and the names that it was asked for."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return asked, resolve


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_refused(address: str) -> None:
    assert not may_reach(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "140.82.112.3", "::ffff:1.1.1.1", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert may_reach(address)


def test_the_operator_can_allow_networks_that_are_not_public() -> None:
    allowed = parse_networks("10.0.0.0/8, fd00::/8,")

    assert [may_reach(address, allowed) for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "11.0.0.1")] == [
        True
    ] * 4
    assert not may_reach("127.0.0.1", allowed)
    with pytest.raises(SettingsError, match=r"PENSTOCK_OUTGOING_ALLOW: '10\.0\.0\.1/8' is not a network"):
        parse_networks("10.0.0.1/8")


@pytest.mark.parametrize("url", [*WRITTEN_STRANGELY, *NO_HTTP_URL])
async def test_no_spelling_leads_inside(url: str, connections: list[object]) -> None:
    client = Outgoing()

    with pytest.raises((OutgoingRefused, OutgoingFailed)) as refused:  # some resolvers do not know some spellings
        await client.send("POST", url, headers={}, content=b"{}")

    assert connections == []
    assert "127.0.0.1" not in refused.value.message
    await client.close()


async def test_a_name_with_one_address_inside_is_refused(connections: list[object]) -> None:
    _, resolve = resolver(["1.1.1.1", "127.0.0.1"])

    with pytest.raises(OutgoingRefused):
        await Outgoing(resolve=resolve).send("POST", "http://both.example/", headers={}, content=b"")

    assert connections == []


async def test_a_name_is_resolved_once_and_its_judged_address_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, resolve = resolver(["127.0.0.1"], ["169.254.169.254"])
    looked_up: list[object] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo
    monkeypatch.setattr(
        loop, "getaddrinfo", lambda host, *rest, **more: (looked_up.append(host), real(host, *rest, **more))[1]
    )

    async with receiver(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, requests):
        client = Outgoing("127.0.0.0/8", resolve=resolve)
        answer = await client.send("POST", f"http://rebinding.example:{port}/x", headers={}, content=b"{}")
        with pytest.raises(OutgoingRefused):  # the connection was closed: a new one is judged anew
            await client.send("POST", f"http://rebinding.example:{port}/x", headers={}, content=b"{}")
        await client.close()

    assert answer.status == 204
    assert asked == ["rebinding.example"] * 2
    assert all(ipaddress.ip_address(str(host)) for host in looked_up)  # if at all, to read an address
    assert b"host: rebinding.example" in requests[0].lower()
    assert len(requests) == 1


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with receiver(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as (
        port,
        requests,
    ):
        client = Outgoing("127.0.0.0/8")
        answer = await client.send("POST", f"http://127.0.0.1:{port}/", headers={}, content=b"")
        await client.close()

    assert answer.status == 302
    assert not answer.is_success
    assert len(requests) == 1


async def test_the_environments_proxy_and_cookies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with receiver(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n") as (port, requests):
        client = Outgoing("127.0.0.0/8")
        for _ in range(2):
            await client.send("POST", f"http://127.0.0.1:{port}/", headers={}, content=b"")
        await client.close()

    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


async def test_only_the_beginning_of_an_answer_is_read_and_nothing_is_inflated() -> None:
    bomb = gzip.compress(b"\0" * (50 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {10**9}\r\n\r\n".encode()
    async with receiver(head + bomb + bytes(4 * ANSWER_LIMIT)) as (port, _):
        client = Outgoing("127.0.0.0/8")
        answer = await client.send("GET", f"http://127.0.0.1:{port}/", headers={}, content=b"")
        await client.close()

    assert len(answer.body) == ANSWER_LIMIT
    assert answer.body.startswith(bomb[:100])


async def test_a_receiver_that_never_answers_costs_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "TOTAL_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = Outgoing("127.0.0.0/8")
        with pytest.raises(OutgoingFailed, match=r"no answer within 0\.2 s"):
            await client.send("POST", f"http://127.0.0.1:{deaf.getsockname()[1]}/", headers={}, content=b"")
        await client.close()


async def test_nobody_there_is_a_failure_that_can_be_tried_again() -> None:
    client = Outgoing("127.0.0.0/8")
    with pytest.raises(OutgoingFailed):
        await client.send("POST", "http://127.0.0.1:1/", headers={}, content=b"")
    with pytest.raises(OutgoingFailed, match="cannot be found"):
        await client.send("POST", "http://no-such-host.invalid/", headers={}, content=b"")
    await client.close()


async def test_retry_after_is_read_when_it_is_a_number_of_seconds() -> None:
    for value, seconds in (("120", 120.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)):
        async with receiver(f"HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode()) as (
            port,
            _,
        ):
            client = Outgoing("127.0.0.0/8")
            answer = await client.send("POST", f"http://127.0.0.1:{port}/", headers={}, content=b"")
            await client.close()
        assert answer.retry_after == seconds


def test_httpx_still_keeps_its_pool_where_it_is_replaced() -> None:
    assert hasattr(httpx.AsyncHTTPTransport(trust_env=False), "_pool")


@asynccontextmanager
async def receiver(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each request with these bytes and hangs up."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            return

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], requests
