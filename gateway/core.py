"""The one object behind every handler: it takes deliveries, and owns whatever the handlers need.

A delivery is decided in this order: whose token, how large, then what `gateway/intake.py` reads in its bytes. Event and
run are written in one commit that many deliveries share; only after it the sender is answered and the doorbell rung.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from gateway import credentials, intake
from gateway.audit import Audit
from gateway.backfills import Backfills
from gateway.callbacks import Callbacks
from gateway.catalog import Catalog
from gateway.clocks import Clocks
from gateway.control import Control
from gateway.dry_runs import DryRuns
from gateway.feed import Feed
from gateway.incoming import Incoming
from gateway.inspector import Inspector
from gateway.logs import Logs
from gateway.metrics import Metrics
from gateway.outputs import Outputs
from gateway.overviews import Overviews
from gateway.purging import Purging
from gateway.registry import Registry
from gateway.runs import Runs
from gateway.tail import Tail
from gateway.urls import Urls
from schemas import queue
from schemas.changes import Channels
from schemas.errors import Invalid, NotFound, PenstockError, TooLarge, Unavailable
from schemas.events import Delivery, Receipt
from schemas.groupcommit import GroupCommit
from schemas.listener import Listener
from schemas.objects import ObjectStore, store_place
from schemas.queue import Doorbell, Ring
from schemas.runs import RunRef
from schemas.schedules import Gate
from schemas.settings import MAX_BODY_LIMIT, Settings
from schemas.states import RunState, Verdict
from schemas.store import events, leases, links, runs
from schemas.store.db import Database

NO_SUCH_HOOK = "There is no such hook."
DAYS_OF_PARTITIONS = 7
RETRY_S = 0.2
Found = TypeVar("Found")
ReadBody = Callable[[int], Awaitable[bytes]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery; `status` is `accepted`, `duplicate` or `ignored`, the last with its reason."""

    event_id: uuid.UUID | None
    status: str
    runs: Sequence[RunRef] = ()
    reason: str | None = None
    explanation: list[dict[str, str]] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it became runs and all of them have ended."""
        return bool(self.runs) and all(run.state.is_terminal for run in self.runs)


class Core:
    """Everything a handler may ask for; made once per process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = Database(settings.database_url, size=settings.database_pool, name="penstock gateway")
        self.redis = queue.connect(settings.redis_url)
        self.doorbell = Doorbell(self.redis, prefix=settings.redis_prefix)
        self.urls = Urls(settings)
        self.metrics = Metrics()
        self.registry = Registry(self.db, hold_s=settings.hold_s)
        self.feed = Feed(self.db)
        self.tail = Tail(self.db)
        self._channels = Channels(settings.redis_prefix)
        self.listener = Listener(
            settings.redis_url,
            {self._channels.registry: self.registry.forget, self._channels.changes: self._hear_changes},
        )
        self._signer = credentials.LinkSigner(settings.secret_keys.split(",")) if settings.secret_keys else None
        self.catalog = Catalog(self.db, urls=self.urls, signer=self._signer, changed=self._registry_changed)
        self.clocks = Clocks(self.db)
        self.inspector = Inspector(self.db)
        self.audit = Audit(self.db)
        self.logs = Logs(self.db)
        self.runs = Runs(self.db, self.doorbell, urls=self.urls)
        self.callbacks = Callbacks(self.db, self.doorbell, channels=self._channels, secret_keys=settings.secret_keys)
        self.control = Control(self.db, self.doorbell, runs=self.runs, channels=self._channels)
        self.backfills = Backfills(self.db, self.doorbell, channels=self._channels)
        self.outputs = Outputs(self.db, ObjectStore(store_place(settings.store, settings.data)))
        self.dry_runs = DryRuns(self.db, self.doorbell, channels=self._channels)
        self.overviews = Overviews(self.db, self.doorbell, urls=self.urls)
        self.purging = Purging(self.db)
        self._ingest: GroupCommit[Delivery, Receipt] = GroupCommit(
            self._commit, hold_s=settings.hold_s, size=lambda delivery: 1024 + len(delivery.body)
        )

    async def start(self) -> None:
        """Connect; raises Unavailable or UnsafeDatabase when that cannot be done."""
        await self.db.open()
        await leases.ensure_partitions(self.db, DAYS_OF_PARTITIONS)
        await self.registry.start()
        await self.feed.start()
        await self.listener.start()

    async def stop(self) -> None:
        """Answer what is under way, then disconnect."""
        await self._ingest.close()
        await self.doorbell.flush()
        await self.listener.stop()
        await self.feed.stop()
        await self.tail.stop()
        await self.registry.stop()
        await self.db.close()
        await self.redis.aclose()

    def drain(self) -> None:
        """Ask everyone who watches to come back later, elsewhere."""
        self.feed.drain()
        self.tail.drain()

    async def deliver(
        self, schedule: str, token: str, *, headers: dict[str, str], read_body: ReadBody, dry_run: bool = False
    ) -> Outcome:
        """Take one delivery from its first byte to its commit.

        Raises NotFound (the same for every way in which token and schedule do not fit), TooLarge, BadSignature,
        Malformed, Unavailable.
        """
        with self.metrics.delivery_seconds.time():
            try:
                return await self._deliver(schedule, token, headers, read_body, dry_run=dry_run)
            except PenstockError as error:
                self.metrics.refused.labels(error.code).inc()
                raise

    async def _deliver(
        self, schedule: str, token: str, headers: dict[str, str], read_body: ReadBody, *, dry_run: bool
    ) -> Outcome:
        if not token.startswith(credentials.TOKEN_PREFIX):
            return await self._deliver_by_link(schedule, token, headers, read_body, dry_run=dry_run)
        gate = await self._find_gate(schedule, token)
        incoming = Incoming(headers, await read_body(self._limit(gate)))
        assessment = intake.assess(gate, incoming)
        if dry_run:
            return _dry(gate, assessment, len(incoming.body))
        delivery = intake.write_down(gate, incoming, assessment)
        receipt = await self._ingest.submit(delivery)
        return await self._acknowledge(delivery, receipt)

    async def wait(self, outcome: Outcome, seconds: float) -> Outcome:
        """Wait until the runs of an outcome have ended or the time is up, and say where they stand then."""
        await self.feed.wait_until_ended([run.id for run in outcome.runs], seconds)
        if outcome.event_id is None:
            return outcome
        return msgspec.structs.replace(outcome, runs=await self._runs_of(outcome.event_id))

    async def _find_gate(self, schedule: str, token: str) -> Gate:
        if not credentials.could_be_token(token):
            raise NotFound(NO_SUCH_HOOK)
        gate = await self.registry.gate(credentials.digest(token))
        if gate is None or schedule not in (str(gate.schedule_id), str(gate.number)):
            raise NotFound(NO_SUCH_HOOK)
        return gate

    async def _deliver_by_link(
        self, schedule: str, signed: str, headers: dict[str, str], read_body: ReadBody, *, dry_run: bool
    ) -> Outcome:
        """Count the link's use and write the delivery in one transaction: a refused delivery uses nothing up."""
        link_id = self._signer.read(signed) if self._signer else None
        if link_id is None:
            raise NotFound(NO_SUCH_HOOK)
        if dry_run:
            raise Invalid("A signed link cannot be tried out without using it; try a token.")
        incoming = Incoming(headers, await read_body(MAX_BODY_LIMIT))
        async with self.db.transaction() as transaction:
            use = await links.use(transaction, link_id)
            if use is None or schedule not in (str(use.schedule_id), str(use.number)):
                raise NotFound(NO_SUCH_HOOK)
            if len(incoming.body) > (limit := self._limit(use)):
                raise TooLarge.of_body(limit)
            gate = use.gate()
            delivery = intake.write_down(gate, incoming, intake.assess(gate, incoming))
            receipts = await events.ingest(transaction, [delivery])
        self._ring([delivery], receipts)
        return await self._acknowledge(delivery, receipts[0])

    async def measure(self) -> bytes:
        """Write the metrics; raises Unavailable."""
        for state, count in (await runs.count_active(self.db)).items():
            self.metrics.active_runs.labels(state).set(count)
        self.metrics.doorbell.set(self.doorbell.is_healthy)
        return self.metrics.text()

    def _hear_changes(self, payload: bytes | None) -> None:
        self.feed.hear(payload)
        self.tail.hear(payload)

    async def _registry_changed(self) -> None:
        self.registry.forget()
        await self.doorbell.announce(self._channels.registry)

    def _limit(self, gate: Gate) -> int:
        return gate.body_limit or self.settings.body_limit

    async def _commit(self, deliveries: list[Delivery]) -> list[Receipt]:
        receipts = await events.ingest(self.db, deliveries)
        self._ring(deliveries, receipts)
        return receipts

    def _ring(self, deliveries: Sequence[Delivery], receipts: Sequence[Receipt]) -> None:
        self.doorbell.ring(
            Ring(delivery.run_id, 0, str(delivery.schedule_id), delivery.queue)
            for delivery, receipt in zip(deliveries, receipts, strict=True)
            if delivery.run_id is not None and receipt.number is not None
        )

    async def _acknowledge(self, delivery: Delivery, receipt: Receipt) -> Outcome:
        outcome = await self._describe(delivery, receipt)
        self.metrics.deliveries.labels(delivery.source, outcome.status).inc()
        return outcome

    async def _describe(self, delivery: Delivery, receipt: Receipt) -> Outcome:
        if delivery.run_id is not None and receipt.number is not None:
            run = self._reference(delivery.run_id, receipt.number, RunState.QUEUED)
            return Outcome(event_id=receipt.event_id, status="accepted", runs=(run,))
        if receipt.is_duplicate:
            return Outcome(event_id=receipt.event_id, status="duplicate", runs=await self._runs_of(receipt.event_id))
        if delivery.verdict is Verdict.ACCEPTED:  # a second try found what the first had committed unheard
            return Outcome(event_id=receipt.event_id, status="accepted", runs=await self._runs_of(receipt.event_id))
        return Outcome(event_id=receipt.event_id, status="ignored", reason=delivery.reason)

    async def _runs_of(self, event_id: uuid.UUID) -> list[RunRef]:
        found = await self._held(lambda: runs.of_events(self.db, [event_id]))
        return [self._reference(*run) for run in found[event_id]]

    async def _held(self, read: Callable[[], Awaitable[Found]]) -> Found:
        """Read, and while the database is away try again for as long as a delivery may be held."""
        give_up_at = time.monotonic() + self.settings.hold_s
        while True:
            try:
                return await read()
            except Unavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(RETRY_S)

    def _reference(self, run_id: uuid.UUID, number: int, state: RunState) -> RunRef:
        return RunRef(
            id=run_id, number=number, state=state, url=self.urls.run(run_id), stream_url=self.urls.run_stream(run_id)
        )


def _dry(gate: Gate, assessment: intake.Assessment, size: int) -> Outcome:
    status = "accepted" if assessment.verdict is Verdict.ACCEPTED else "ignored"
    steps = intake.explain(gate, assessment, size)
    return Outcome(event_id=None, status=status, reason=assessment.reason, explanation=steps)
