"""How a delivery is taken: decided, committed together with its runs, and only then answered.

In this order: whose token, how large, then what `gateway/intake.py` reads in its bytes. Event and runs are written in
one commit that many deliveries share; only after it the sender is answered and the doorbell rung. A body that is too
large for a row is in the object store before that.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from gateway import credentials, intake
from gateway.documents import Documents
from gateway.feed import Feed
from gateway.incoming import Incoming, Unwrap
from gateway.large_bodies import LargeBodies
from gateway.metrics import Metrics
from gateway.refusals import Refusals
from gateway.registry import Registry
from gateway.rules import Finding
from gateway.sources import Reply, discover
from gateway.urls import Urls
from schemas.errors import BadSignature, Malformed, NotFound, PenstockError, TooLarge, Unavailable
from schemas.events import Delivery, Receipt
from schemas.groupcommit import GroupCommit
from schemas.objects import INLINE_LIMIT, ObjectStore
from schemas.queue import Doorbell, Ring
from schemas.runs import Run, RunRef, RunRow
from schemas.schedules import Gate, LinkGate
from schemas.settings import MAX_BODY_LIMIT, Settings
from schemas.shown import show_run
from schemas.states import RunState, Verdict, VerificationMode
from schemas.store import events, links, runs, schedules
from schemas.store.db import Database

log = structlog.get_logger()

NO_SUCH_HOOK = "There is no such hook."
RETRY_S = 0.2
Found = TypeVar("Found")
ReadBody = Callable[[int], Awaitable[bytes]]
Commit = Callable[[Delivery, float | None], Awaitable[Receipt]]


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A request at a hook, its body still unread: `read_body(limit)` reads it, or raises TooLarge.

    Without a `schedule` the token alone says which one is meant; it has to be one of `pipeline_id`, if that is given.
    """

    schedule: str | None
    pipeline_id: str | None = None
    token: str
    headers: dict[str, str]
    read_body: ReadBody
    method: str = "POST"
    url: str = ""
    query: Mapping[str, str] = {}
    is_dry_run: bool = False
    unwrap: Unwrap | None = None

    def is_for(self, gate: Gate) -> bool:
        """Say whether what was called belongs to the schedule behind the token."""
        named = self.schedule in (None, str(gate.schedule_id), str(gate.number))
        return named and self.pipeline_id in (None, gate.pipeline_id)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery; `status` is `accepted`, `duplicate` or `ignored`, the last with its reason and code.

    A `reply` is the answer in the sender's own form, which a handshake demands.
    """

    event_id: uuid.UUID | None
    status: str
    runs: Sequence[RunRef] = ()
    reason: str | None = None
    reason_code: str | None = None
    reply: Reply | None = None
    explanation: list[Finding] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it became runs and all of them have ended."""
        return bool(self.runs) and all(run.state.is_terminal for run in self.runs)


class Ingest:
    """Takes deliveries; `start` and `stop` with the gateway."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        settings: Settings,
        *,
        registry: Registry,
        urls: Urls,
        feed: Feed,
        metrics: Metrics,
        signer: credentials.LinkSigner | None,
        store: ObjectStore,
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._settings = settings
        self._registry = registry
        self._urls = urls
        self._feed = feed
        self._metrics = metrics
        self._documents = Documents(settings.outgoing_allow)
        self._signer = signer
        self._refusals = Refusals(db)
        self._large_bodies = LargeBodies(db, store)
        self._commits: GroupCommit[Delivery, Receipt] = GroupCommit(self._commit, hold_s=settings.hold_s, size=_weight)

    def start(self) -> None:
        """Begin to write down what is refused."""
        self._refusals.start()

    async def stop(self) -> None:
        """Answer what is under way."""
        await self._commits.close()
        await self._large_bodies.stop()
        await self._refusals.stop()
        await self._documents.close()

    async def deliver(self, arrival: Arrival) -> Outcome:
        """Take one delivery from its first byte to its commit.

        Raises NotFound (the same for every way in which token and schedule do not fit), TooLarge, BadSignature,
        Malformed, Unavailable.
        """
        return await self._measured(self._deliver(arrival))

    async def deliver_with_key(self, schedule: str, arrival: Arrival) -> Outcome:
        """Take a delivery of someone who shows an API key instead of a token: the caller has checked its role.

        Raises what `deliver` raises, NotFound for an unknown schedule.
        """
        return await self._measured(self._deliver_with_key(schedule, arrival))

    async def find_gate(self, arrival: Arrival) -> Gate:
        """Find what a token fires; raises NotFound, Unavailable."""
        if not credentials.could_be_token(arrival.token):
            raise NotFound(NO_SUCH_HOOK)
        gate = await self._registry.gate(credentials.digest(arrival.token))
        if gate is None or not arrival.is_for(gate):
            raise NotFound(NO_SUCH_HOOK)
        return gate

    async def greet(self, arrival: Arrival) -> Reply | Outcome | None:
        """Answer a request other than POST, as the sender of this schedule wants it; None when it wants nothing."""
        if not (arrival.token.startswith(credentials.TOKEN_PREFIX) or credentials.is_foreign(arrival.token)):
            return None
        gate = await self.find_gate(arrival)
        source = discover()[gate.source]
        found = source.greet(self._incoming(arrival, b""), gate.source_config) if source.greet else None
        if isinstance(found, Incoming):
            return await self._take(gate, found, self._commit_soon, is_dry_run=arrival.is_dry_run)
        return found

    async def wait(self, outcome: Outcome, seconds: float) -> Outcome:
        """Wait until the runs of an outcome have ended or the time is up, and say where they stand then."""
        await self._feed.wait_until_ended([run.id for run in outcome.runs], seconds)
        if outcome.event_id is None:
            return outcome
        return msgspec.structs.replace(outcome, runs=await self._runs_of(outcome.event_id))

    async def show_runs(self, outcome: Outcome) -> list[Run]:
        """Read the runs of an outcome as the API shows them, without blocks; waits for Postgres as a delivery does.

        A run that was queued then is shown as it was then, however quick its runner is.
        """
        queued = {run.id for run in outcome.runs if run.state is RunState.QUEUED}
        ids = [run.id for run in outcome.runs]
        rows = await self._held(lambda: runs.of_ids(self._db, ids, largest_body=MAX_BODY_LIMIT))
        found = [_as_queued(row) if row.id in queued else row for row in reversed(rows)]
        return [show_run(row, (), event_url=self._urls.event_body) for row in found]

    async def _measured(self, delivered: Awaitable[Outcome]) -> Outcome:
        with self._metrics.delivery_seconds.time():
            try:
                return await delivered
            except PenstockError as error:
                self._metrics.refused.labels(error.code).inc()
                raise

    async def _deliver(self, arrival: Arrival) -> Outcome:
        if credentials.could_be_token(arrival.token):
            return await self._pass(await self.find_gate(arrival), arrival, self._commit_soon)
        link = await self._find_link(arrival)
        return await self._pass(link.gate(), arrival, partial(self._commit_by_link, link.token_id))

    async def _deliver_with_key(self, schedule: str, arrival: Arrival) -> Outcome:
        found = await schedules.get(self._db, schedule)
        gate = (await schedules.gates(self._db, [found.id])).get(found.id)
        if gate is None:
            raise NotFound(f"There is no schedule {schedule}.")
        return await self._pass(gate, arrival, self._commit_soon)

    async def _pass(self, gate: Gate, arrival: Arrival, commit: Commit) -> Outcome:
        try:
            body = await arrival.read_body(self._limit(gate))
        except TooLarge as error:
            if not arrival.is_dry_run:
                self._refusals.note(gate, self._incoming(arrival, b""), error)
            raise
        return await self._take(gate, self._incoming(arrival, body), commit, is_dry_run=arrival.is_dry_run)

    async def _take(self, gate: Gate, incoming: Incoming, commit: Commit, *, is_dry_run: bool = False) -> Outcome:
        incoming = await self._with_documents(gate, incoming)
        try:
            assessment = intake.assess(gate, incoming)
        except (BadSignature, Malformed) as error:
            if not is_dry_run:
                self._refusals.note(gate, incoming, error)
            raise
        if is_dry_run:
            return _dry(gate, incoming, assessment)
        if assessment.observed:
            log.warning(
                "strict would refuse", schedule_id=gate.schedule_id, source=gate.source, why=assessment.observed
            )
        delivery = intake.write_down(gate, incoming, assessment)
        receipt = await self._commit_whole(delivery, commit)
        await self._visit(gate, assessment)
        return await self._acknowledge(incoming, assessment, delivery, receipt)

    async def _commit_whole(self, delivery: Delivery, commit: Commit) -> Receipt:
        """Have a large body in the object store first, all in the time for which every delivery may be held."""
        if delivery.size <= INLINE_LIMIT:
            return await commit(delivery, None)
        until = asyncio.get_running_loop().time() + self._settings.hold_s
        async with self._large_bodies.moved(delivery, until=until):
            return await commit(delivery, until)

    async def _commit_soon(self, delivery: Delivery, until: float | None) -> Receipt:
        return await self._commits.submit(delivery, until=until)

    async def _commit_by_link(self, link_id: uuid.UUID, delivery: Delivery, _until: float | None) -> Receipt:
        """Count the link's use and write the delivery in one transaction: a refused delivery uses nothing up."""
        async with self._db.transaction() as transaction:
            if not await links.use(transaction, link_id):
                raise NotFound(NO_SUCH_HOOK)
            [receipt] = await events.ingest(transaction, [delivery])
        self._ring([delivery], [receipt])
        return receipt

    async def _with_documents(self, gate: Gate, incoming: Incoming) -> Incoming:
        """Fetch what verification needs; raises Unavailable when that fails and the mode is not to let all in."""
        wanted = discover()[gate.source].wants(incoming, gate.source_config)
        if not wanted:
            return incoming
        try:
            documents = await self._documents.fetch(wanted, gate.source_config)
        except Unavailable:
            if gate.source_config.mode is VerificationMode.STRICT:
                raise
            return incoming
        return msgspec.structs.replace(incoming, documents=documents)

    async def _visit(self, gate: Gate, assessment: intake.Assessment) -> None:
        """Visit the address that confirms a handshake, also when it comes again; never for one that is not verified.

        Raises Unavailable when that fails: the sender is to ask again.
        """
        handshake = assessment.facts.handshake
        if handshake and handshake.visit and not assessment.observed:
            await self._documents.visit(handshake.visit, gate.source_config)

    async def _find_link(self, arrival: Arrival) -> LinkGate:
        link_id = self._signer.read(arrival.token) if self._signer else None
        link = await links.gate(self._db, link_id) if link_id is not None else None
        if link is None or not arrival.is_for(link):
            raise NotFound(NO_SUCH_HOOK)
        return link

    def _incoming(self, arrival: Arrival, body: bytes) -> Incoming:
        return Incoming(
            arrival.headers,
            body,
            method=arrival.method,
            url=arrival.url,
            query=arrival.query,
            now=self._registry.now_s(),
            unwrap=arrival.unwrap,
        )

    def _limit(self, gate: Gate) -> int:
        return gate.body_limit or self._settings.body_limit

    async def _commit(self, deliveries: list[Delivery]) -> list[Receipt]:
        receipts = await events.ingest(self._db, deliveries)
        self._ring(deliveries, receipts)
        return receipts

    def _ring(self, deliveries: Sequence[Delivery], receipts: Sequence[Receipt]) -> None:
        self._doorbell.ring(
            Ring(run_id, 0, str(delivery.schedule_id), delivery.queue)
            for delivery, receipt in zip(deliveries, receipts, strict=True)
            for run_id in receipt.numbers
        )

    async def _acknowledge(
        self, incoming: Incoming, assessment: intake.Assessment, delivery: Delivery, receipt: Receipt
    ) -> Outcome:
        outcome = await self._describe(delivery, receipt)
        self._metrics.deliveries.labels(delivery.source, outcome.status).inc()
        if handshake := assessment.facts.handshake:
            return msgspec.structs.replace(outcome, reply=handshake.reply)
        wants_ours = "application/json" in incoming.headers.get("accept", "")
        return outcome if wants_ours else msgspec.structs.replace(outcome, reply=discover()[delivery.source].answer)

    async def _describe(self, delivery: Delivery, receipt: Receipt) -> Outcome:
        event_id = receipt.event_id
        if receipt.numbers:
            started = [self._reference(run, number, RunState.QUEUED) for run, number in receipt.numbers.items()]
            return Outcome(event_id=event_id, status="accepted", runs=started)
        if receipt.is_duplicate:
            reason = "another body came before with the same key" if receipt.differs else None
            return Outcome(event_id=event_id, status="duplicate", runs=await self._runs_of(event_id), reason=reason)
        if delivery.verdict is not Verdict.ACCEPTED:
            code = delivery.reason_code
            return Outcome(event_id=event_id, status="ignored", reason=delivery.reason, reason_code=code)
        # A second try found what the first had committed unheard, or every item of it came before.
        if found := await self._runs_of(event_id):
            return Outcome(event_id=event_id, status="accepted", runs=found)
        return Outcome(event_id=event_id, status="ignored", reason="all its items came before")

    async def _runs_of(self, event_id: uuid.UUID) -> list[RunRef]:
        found = await self._held(lambda: runs.of_events(self._db, [event_id]))
        return [self._reference(*run) for run in found[event_id]]

    async def _held(self, read: Callable[[], Awaitable[Found]]) -> Found:
        """Read, and while the database is away try again for as long as a delivery may be held."""
        give_up_at = time.monotonic() + self._settings.hold_s
        while True:
            try:
                return await read()
            except Unavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(RETRY_S)

    def _reference(self, run_id: uuid.UUID, number: int, state: RunState) -> RunRef:
        return RunRef(
            id=run_id, number=number, state=state, url=self._urls.run(run_id), stream_url=self._urls.run_stream(run_id)
        )


def _weight(delivery: Delivery) -> int:
    """Say about how many bytes a delivery takes on its way to Postgres, with the items that it is split into."""
    items = delivery.items or ()
    return 1024 + len(delivery.body) + sum(1024 + len(item.event_item) for item in items)


def _as_queued(row: RunRow) -> RunRow:
    return msgspec.structs.replace(row, state=RunState.QUEUED, attempt=0, started_at=None, finished_at=None)


def _dry(gate: Gate, incoming: Incoming, assessment: intake.Assessment) -> Outcome:
    status = "accepted" if assessment.verdict is Verdict.ACCEPTED else "ignored"
    steps = intake.explain(gate, incoming, assessment)
    return Outcome(event_id=None, status=status, reason=assessment.reason, explanation=steps)
