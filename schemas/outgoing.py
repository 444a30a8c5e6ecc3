"""Requests to URLs that somebody else named: nothing inside can be reached by them, and nothing can hold us up.

The guard sits where connections are made, so there is one reading of a URL and no second look-up: the host is
resolved once, every address that it has is judged, and the connection goes to a judged address, while TLS and the
Host header keep the name. Redirects are not followed, proxies of the environment are not used, cookies are not kept,
answers are cut.

Importing this imports httpx, which takes time and memory: do it when the first request is sent.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy

import httpcore
import httpx
import msgspec

from schemas.addresses import may_reach, parse_networks
from schemas.errors import Invalid, Unavailable

CONNECT_S = 5.0
TOTAL_S = 15.0  # Standard Webhooks recommends 15 to 30
ANSWER_LIMIT = 64 << 10
KEEP_IDLE_S = 5.0
MOST_CONNECTIONS = 100
USER_AGENT = "penstock"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class OutgoingRefused(Invalid):
    """The host of this URL is not public, so no request is sent there; PENSTOCK_OUTGOING_ALLOW can allow it."""

    code = "outgoing_refused"


class OutgoingFailed(Unavailable):
    """No answer came."""

    code = "outgoing_failed"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, whatever its status; `body` is its beginning, `retry_after` the header in seconds."""

    status: int
    body: bytes
    retry_after: float | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver for every address of a host; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Outgoing:
    """A guarded HTTP client; `allow` are comma-separated CIDRs that may be reached although they are not public."""

    def __init__(self, allow: str = "", *, resolve: Resolve = resolve) -> None:
        backend = _GuardedBackend(allow, resolve)
        self._client = httpx.AsyncClient(
            transport=_guarded_transport(backend),
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], content: bytes) -> Answer:
        """Send one request and read the beginning of its answer.

        Raises OutgoingRefused when the host may not be reached or the URL is none, OutgoingFailed when no answer comes
        within `TOTAL_S`.
        """
        try:
            async with (
                asyncio.timeout(TOTAL_S),
                self._client.stream(method, url, headers=dict(headers), content=content) as answer,
            ):
                body = await _beginning(answer)
                return Answer(status=answer.status_code, body=body, retry_after=_seconds(answer.headers))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise OutgoingRefused("This is not an http or https URL.") from None
        except (httpx.HTTPError, httpcore.ProtocolError, OSError, ValueError) as error:
            raise OutgoingFailed(_explain(error)) from None


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, allow: str, resolve: Resolve) -> None:
        self._allowed = parse_networks(allow)
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = await self._resolve(host.strip("[]"), port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the host cannot be found") from None
        if not addresses or not all(may_reach(address, self._allowed) for address in addresses):
            raise OutgoingRefused
        failure: Exception = httpcore.ConnectError()
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise OutgoingRefused

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def _guarded_transport(backend: _GuardedBackend) -> httpx.AsyncHTTPTransport:
    """Make httpx's transport over a pool of ours: it has no public way to say how connections are made (0.28)."""
    transport = httpx.AsyncHTTPTransport(verify=False, trust_env=False)
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=False),
        max_connections=MOST_CONNECTIONS,
        max_keepalive_connections=MOST_CONNECTIONS,
        keepalive_expiry=KEEP_IDLE_S,
        network_backend=backend,
    )
    return transport


async def _beginning(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) >= ANSWER_LIMIT:
            break
    return bytes(body[:ANSWER_LIMIT])


def _seconds(headers: httpx.Headers) -> float | None:
    """Read Retry-After, if it says seconds; a date would trust the other side's clock."""
    value = headers.get("retry-after", "").strip()
    return float(value[:9]) if value.isascii() and value.isdigit() else None


def _explain(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {TOTAL_S:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
