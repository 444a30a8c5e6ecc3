"""`/v1/ws`: what the streams tell, over a WebSocket whose topics may change while it is open.

A key comes in the header Authorization, or, since browsers cannot set headers here, as the first message. There are no
cookies, so a foreign page has no credentials of its visitor to abuse; still, one that shows a key in the header is
refused unless its Origin is ours.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Annotated, Any

import msgspec
import structlog
from litestar import websocket
from msgspec import Meta

from gateway import credentials, frames
from gateway.auth import identify
from gateway.bodies import decode_json
from gateway.core import Core
from gateway.errors import describe_error, problem_json
from gateway.handling import TheCore
from gateway.tail import Cursor
from gateway.topics import Wanted, wanted_by
from gateway.upgrades import GONE, OVERLOADED, AnySocket, is_foreign_page, refuse, send_frames
from schemas import tasks
from schemas.changes import Change
from schemas.errors import Forbidden, Invalid, PenstockError, Unauthenticated, Unavailable
from schemas.keys import Caller
from schemas.states import Role

log = structlog.get_logger()

KEY_WITHIN_S = 10.0
MOST_TOPICS = 100
MOST_UNREADABLE = 5  # messages
UNREADABLE, UNAUTHENTICATED, FORBIDDEN = 1003, 4401, 4403
_ABOUT_RUNS: dict[str, Callable[[Change], bool]] = {
    "run": lambda change: change.kind != "log",
    "logs": lambda change: change.kind == "log",
}
_TOO_MANY = f"One socket has at most {MOST_TOPICS} topics."
_LARGEST_SEQ = 2**31 - 1
_Topics = Annotated[list[str], Meta(min_length=1, max_length=MOST_TOPICS)]


class Auth(msgspec.Struct, tag_field="op", tag="auth", forbid_unknown_fields=True):
    """The first message of whoever could not send a header."""

    key: str


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Hear of these topics too; `after` is the cursor of the last message that was heard."""

    topics: _Topics
    after: str | None = None


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Hear of these topics no more."""

    topics: _Topics


class Ping(msgspec.Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    """Ask for a `pong`: browsers cannot send pings of the protocol."""


Operation = Auth | Subscribe | Unsubscribe | Ping


@websocket("/v1/ws")
async def watch(socket: AnySocket, core: TheCore) -> None:
    """Follow topics, of the query (`?topics=runs,run:ID&after=CURSOR`) or of the messages `subscribe`."""
    try:
        caller = await _caller(socket, core)
        asked = _asked_by_query(socket)
        if caller and asked:
            await _resolve(asked, core)
    except PenstockError as error:
        await refuse(socket, problem_json(describe_error(error)))
        return
    with contextlib.suppress(*GONE):
        await socket.accept()
        await Session(socket, core).serve(caller, asked)


class Session:
    """One open socket: a pump for each watched run, and one for all topics that are not about one run."""

    def __init__(self, socket: AnySocket, core: Core) -> None:
        self._socket = socket
        self._core = core
        self._pumps: dict[uuid.UUID | None, Pump] = {}
        self._unreadable = 0

    async def serve(self, caller: Caller | None, asked: Subscribe | None) -> None:
        """Answer messages until either side closes."""
        async with contextlib.aclosing(self._operations()) as operations:
            try:
                if caller is None and not await self._hear_key(operations):
                    return
                if asked is None:
                    await self._confirm()
                else:
                    await self._obey(asked)
                async for operation in operations:
                    await self._obey(operation)
            finally:
                await tasks.end([pump.task for pump in self._pumps.values()])

    async def _hear_key(self, operations: AsyncGenerator[Operation]) -> bool:
        try:
            async with asyncio.timeout(KEY_WITHIN_S):
                operation = await anext(operations, None)
            if operation is None:
                return False
            if not isinstance(operation, Auth):
                raise Unauthenticated
            _admit(await self._core.registry.caller(credentials.digest(operation.key)))
        except TimeoutError:
            await self._close(UNAUTHENTICATED, "no key came in time")
        except Unauthenticated as error:
            await self._close(UNAUTHENTICATED, error.message)
        except Forbidden as error:
            await self._close(FORBIDDEN, error.message)
        except Unavailable as error:
            await self._close(OVERLOADED, error.message)
        else:
            return True
        return False

    async def _operations(self) -> AsyncGenerator[Operation]:
        """Read messages until the socket closes; whoever only sends nonsense is sent away."""
        while (message := await self._socket.receive())["type"] == "websocket.receive":
            try:
                if (text := message.get("text")) is None:
                    raise Invalid("Messages are text frames with a JSON object.")
                operation: Operation = decode_json(text.encode(), Operation)  # type: ignore[arg-type]
            except Invalid as error:
                await self._complain(error)
                self._unreadable += 1
                if self._unreadable >= MOST_UNREADABLE:
                    await self._close(UNREADABLE, "too many messages that cannot be read")
                    return
            else:
                yield operation

    async def _obey(self, operation: Operation) -> None:
        try:
            if isinstance(operation, Ping):
                await self._say({"type": "pong"})
            elif isinstance(operation, Subscribe):
                await self._subscribe(operation)
            elif isinstance(operation, Unsubscribe):
                await self._unsubscribe(operation)
            else:
                await self._confirm()
        except PenstockError as error:
            await self._complain(error)

    async def _subscribe(self, asked: Subscribe) -> None:
        wanted, seq, cursor = await _resolve(asked, self._core)
        if len({topic for topics in (*wanted.values(), *self._topics()) for topic in topics}) > MOST_TOPICS:
            raise Invalid(_TOO_MANY)
        if None in wanted:
            await self._core.tail.begin()
        begun: dict[uuid.UUID | None, Pump] = {}
        for run_id, topics in wanted.items():
            old = self._pumps.get(run_id)
            if old and run_id is None and cursor is None:
                old.topics |= topics  # from now on
            else:
                await tasks.end([old.task if old else None])
                self._pumps[run_id] = begun[run_id] = Pump((old.topics if old else {}) | topics)
        if None in begun:
            cursor = cursor or self._core.tail.now
        await self._confirm(cursor)
        for run_id, pump in begun.items():
            events = (
                self._core.tail.watch(pump.wants, after=cursor)
                if run_id is None
                else self._core.feed.watch(run_id, after=seq, wanted=pump.wants)
            )
            pump.task = asyncio.create_task(self._pump(run_id, pump, events))

    async def _unsubscribe(self, asked: Unsubscribe) -> None:
        for run_id, topics in (await _by_run(asked.topics, self._core)).items():
            if pump := self._pumps.get(run_id):
                for topic in topics:
                    pump.topics.pop(topic, None)
                if not pump.topics:
                    del self._pumps[run_id]
                    await tasks.end([pump.task])
        await self._confirm()

    async def _pump(self, run_id: uuid.UUID | None, pump: "Pump", events: AsyncGenerator[bytes]) -> None:
        """Send what a stream yields, at the pace at which the other side reads."""
        try:
            async with contextlib.aclosing(events):
                async for chunk in events:
                    if message := frames.text_frames(chunk):
                        await self._send(message)
        except GONE:
            pass
        except Exception as error:
            if not isinstance(error, PenstockError):
                log.exception("a watcher was sent away")
            with contextlib.suppress(*GONE):
                await self._close(OVERLOADED, "try again later")
        if self._pumps.get(run_id) is pump:
            del self._pumps[run_id]

    def _topics(self) -> list[dict[str, Wanted]]:
        return [pump.topics for pump in self._pumps.values()]

    async def _confirm(self, cursor: Cursor | None = None) -> None:
        """List the topics; `cursor` is where those begin that are not about one run."""
        message: dict[str, Any] = {
            "type": "subscribed",
            "topics": [topic for topics in self._topics() for topic in topics],
        }
        await self._say(message | ({"cursor": str(cursor)} if cursor else {}))

    async def _complain(self, error: PenstockError) -> None:
        problem = describe_error(error)
        message: dict[str, Any] = {"type": "error", "code": problem.code, "detail": problem.detail}
        await self._say(message | ({"errors": problem.errors} if problem.errors else {}))

    async def _say(self, message: dict[str, Any]) -> None:
        await self._send(frames.text_frame(msgspec.json.encode(message)))

    async def _send(self, ready: bytes) -> None:
        await send_frames(self._socket, ready)

    async def _close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason[:120])


class Pump:
    """Topics that are told by one stream, and the task that sends what it yields."""

    def __init__(self, topics: dict[str, Wanted]) -> None:
        self.topics = topics
        self.task: asyncio.Task[None] | None = None

    def wants(self, change: Any) -> bool:
        """Say whether any topic wants a change."""
        return any(wanted(change) for wanted in self.topics.values())


async def _caller(socket: AnySocket, core: Core) -> Caller | None:
    """Find who asks, by the header; None when there is no header. Raises Unauthenticated or Forbidden."""
    if "authorization" not in socket.headers:
        return None
    if is_foreign_page(socket, core.urls):
        raise Forbidden("A page from elsewhere shows its key in the first message, not in a header.")
    return _admit(await identify(socket))


def _admit(caller: Caller | None) -> Caller:
    if caller is None:
        raise Unauthenticated("This API key is not known, or was revoked.")
    if not caller.role.covers(Role.VIEWER):
        raise Forbidden
    return caller


def _asked_by_query(socket: AnySocket) -> Subscribe | None:
    topics: str | None = socket.query_params.get("topics")
    if not topics:
        return None
    names = [topic.strip() for topic in topics.split(",")]
    if len(names) > MOST_TOPICS:
        raise Invalid(_TOO_MANY)
    return Subscribe(names, socket.query_params.get("after") or None)


async def _resolve(
    asked: Subscribe, core: Core
) -> tuple[dict[uuid.UUID | None, dict[str, Wanted]], int, Cursor | None]:
    """Find the topics by run, and where they begin: the seq of a run, the cursor of the others.

    Raises Invalid or NotFound.
    """
    wanted = await _by_run(asked.topics, core)
    after, runs = asked.after, len(wanted.keys() - {None})
    if after is None:
        return wanted, 0, None
    if after.isascii() and after.isdigit():
        if runs != 1:
            raise Invalid("This cursor is that of one run: subscribe to the topics of that run alone.")
        return wanted, min(int(after[:20]), _LARGEST_SEQ), None
    if None not in wanted:
        raise Invalid("The cursor of a run is a number.")
    return wanted, 0, Cursor.parse(after)


async def _by_run(topics: Iterable[str], core: Core) -> dict[uuid.UUID | None, dict[str, Wanted]]:
    """Sort topics by the run that they are about, which has an id or a number; None is about many."""
    found: dict[uuid.UUID | None, dict[str, Wanted]] = {}
    for topic in topics:
        name, _, key = topic.partition(":")
        if name in _ABOUT_RUNS and key:
            run_id = await core.runs.find(key)
            found.setdefault(run_id, {})[f"{name}:{run_id}"] = _ABOUT_RUNS[name]
        else:
            found.setdefault(None, {})[topic] = wanted_by(topic)
    return found
