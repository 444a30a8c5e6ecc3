"""What verification needs from elsewhere, certificates and key sets, and the addresses at which senders want a visit.

Only schemes name these URLs, and only of hosts that they trust. A document is fetched once for all who wait for it,
kept for an hour, and used for a day when it cannot be fetched anew. Whatever fails is our trouble and temporary, since
a sender that is told 503 sends again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog

from gateway.schemes import sns
from schemas.errors import BadSignature, PenstockError, Unavailable
from schemas.schedules import SourceConfig

if TYPE_CHECKING:
    from schemas.outgoing import Answer, Outgoing

FETCH_S = 3.0
KEEP_S = 3600.0
STALE_S = 86_400.0
REFETCH_S = 30.0  # a key that is not in its set is looked for no more often
RETRY_S = 5
MOST_DOCUMENTS = 64
MOST_AT_ONCE = 8
LOOPBACK = "127.0.0.0/8,::1/128"

_log = structlog.get_logger()
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Place(msgspec.Struct, frozen=True):
    """A URL, and whether the schedule itself names its host: then it may be of this machine, and without TLS."""

    url: str
    is_configured: bool


class Document(msgspec.Struct, frozen=True):
    """What was fetched, and when."""

    body: bytes
    at: float

    def has(self, wanted: str) -> bool:
        """Say whether the key of this id stands in it; nothing stands in everything."""
        return not wanted or f'"{wanted}"'.encode() in self.body


class Documents:
    """Fetches and keeps; `allow` are networks that may be reached although they are not public."""

    def __init__(self, allow: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._allow = allow
        self._clock = clock
        self._kept: OrderedDict[Place, Document] = OrderedDict()
        self._failed: OrderedDict[Place, float] = OrderedDict()
        self._under_way: dict[Place, asyncio.Task[Document | None]] = {}
        self._clients: dict[bool, Outgoing] = {}
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def close(self) -> None:
        """Let go of what is under way, and of every connection."""
        for task in list(self._under_way.values()):
            task.cancel()
        for client in self._clients.values():
            await client.close()

    async def fetch(self, urls: Sequence[str], config: SourceConfig) -> Mapping[str, bytes]:
        """Get what a scheme wants, by URL without its fragment, which names a key that the document has to hold.

        Raises BadSignature for a URL that may not be fetched, Unavailable when it cannot be.
        """
        wanted = [url.partition("#") for url in urls]
        return {url: await self._get(_place(url, config), key_id) for url, _, key_id in wanted}

    async def visit(self, url: str, config: SourceConfig) -> None:
        """Visit an address that SNS wants visited, of a delivery that was verified; redirects are not followed.

        Raises BadSignature when it leads elsewhere, Unavailable when it does not answer with a success.
        """
        if not sns.may_visit(url, config):
            raise BadSignature("The address that is to be visited is not one of SNS.")
        answer = await self._request(_place(url, config))
        if answer is None or not answer.is_success:
            raise Unavailable("The address that confirms the subscription did not answer as it should.")

    async def _get(self, place: Place, key_id: str) -> bytes:
        kept, now = self._kept.get(place), self._clock()
        if kept and now - kept.at < KEEP_S and (kept.has(key_id) or now - kept.at < REFETCH_S):
            self._kept.move_to_end(place)
            return kept.body
        if found := await self._load_once(place):
            return found.body
        if kept and now - kept.at < STALE_S and kept.has(key_id):
            return kept.body
        raise Unavailable("What is needed to verify this cannot be fetched now.", retry_after=RETRY_S)

    async def _load_once(self, place: Place) -> Document | None:
        """Wait for the one fetch of this document, or start it; None when it fails or has just failed."""
        task = self._under_way.get(place)
        if task is None:
            if self._clock() < self._failed.get(place, 0):
                return None
            task = self._under_way[place] = asyncio.create_task(self._load(place))
            task.add_done_callback(lambda _: self._under_way.pop(place, None))
        return await asyncio.shield(task)

    async def _load(self, place: Place) -> Document | None:
        from schemas.outgoing import ANSWER_LIMIT

        answer = await self._request(place)
        if answer is None or answer.status != 200 or len(answer.body) >= ANSWER_LIMIT:
            _remember(self._failed, place, self._clock() + RETRY_S)
            return None
        document = Document(answer.body, self._clock())
        _remember(self._kept, place, document)
        return document

    async def _request(self, place: Place) -> "Answer | None":
        try:
            async with asyncio.timeout(FETCH_S), self._slots:
                answer = await self._client(place.is_configured).send("GET", place.url, headers={}, content=b"")
        except (PenstockError, TimeoutError) as error:
            self._warn(place, str(error) or f"no answer within {FETCH_S:g} s")
            return None
        if answer.status != 200:
            self._warn(place, f"answered {answer.status}")
        return answer

    def _warn(self, place: Place, reason: str) -> None:
        _log.warning("cannot fetch what a sender's proof needs", host=urlsplit(place.url).netloc, reason=reason)

    def _client(self, is_configured: bool) -> "Outgoing":
        from schemas.outgoing import Outgoing

        if is_configured not in self._clients:
            networks = (self._allow, LOOPBACK) if is_configured else (self._allow,)
            self._clients[is_configured] = Outgoing(",".join(filter(None, networks)))
        return self._clients[is_configured]


def _place(url: str, config: SourceConfig) -> Place:
    """Judge a URL; raises BadSignature for one without TLS, unless the schedule names its host."""
    try:
        split = urlsplit(url)
    except ValueError:
        raise BadSignature("What is needed to verify this has no URL that can be read.") from None
    named = {host.lower() for host in config.certificate_hosts}
    is_configured = split.netloc.lower() in named or url == (config.jwks_url.partition("#")[0] or None)
    if split.scheme != "https" and not (split.scheme == "http" and is_configured):
        raise BadSignature("What is needed to verify this would be fetched without TLS.")
    return Place(url, is_configured)


def _remember(mapping: "OrderedDict[Key, Value]", key: Key, value: Value) -> None:
    mapping[key] = value
    mapping.move_to_end(key)
    while len(mapping) > MOST_DOCUMENTS:
        mapping.popitem(last=False)
