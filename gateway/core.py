"""The one object behind every handler: it owns whatever the handlers need, and starts and stops it."""

from gateway import credentials
from gateway.audit import Audit
from gateway.backfills import Backfills
from gateway.callbacks import Callbacks
from gateway.catalog import Catalog
from gateway.clocks import Clocks
from gateway.control import Control
from gateway.dry_runs import DryRuns
from gateway.explanations import Explanations
from gateway.feed import Feed
from gateway.ingest import Ingest
from gateway.inspector import Inspector
from gateway.logs import Logs
from gateway.metrics import Metrics
from gateway.outputs import Outputs
from gateway.overviews import Overviews
from gateway.purging import Purging
from gateway.registry import Registry
from gateway.replayer import Replayer
from gateway.replays import Replays
from gateway.runs import Runs
from gateway.tail import Tail
from gateway.urls import Urls
from schemas import queue
from schemas.changes import Channels
from schemas.listener import Listener
from schemas.objects import ObjectStore, store_place
from schemas.queue import Doorbell
from schemas.settings import Settings
from schemas.store import leases, runs
from schemas.store.db import Database

DAYS_OF_PARTITIONS = 7


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
        store = ObjectStore(store_place(settings.store, settings.data))
        self.inspector = Inspector(self.db, store)
        self.replayer = Replayer(self.db, self.doorbell, self.inspector)
        self.replays = Replays(
            self.db, self.doorbell, inspector=self.inspector, urls=self.urls, wake=self.replayer.wake
        )
        self.explanations = Explanations(self.db, self.inspector)
        self.audit = Audit(self.db)
        self.logs = Logs(self.db)
        self.runs = Runs(self.db, self.doorbell, urls=self.urls)
        self.callbacks = Callbacks(self.db, self.doorbell, channels=self._channels, secret_keys=settings.secret_keys)
        self.control = Control(self.db, self.doorbell, runs=self.runs, channels=self._channels)
        self.backfills = Backfills(self.db, self.doorbell, channels=self._channels)
        self.outputs = Outputs(self.db, store)
        self.dry_runs = DryRuns(self.db, self.doorbell, channels=self._channels)
        self.overviews = Overviews(self.db, self.doorbell, urls=self.urls)
        self.purging = Purging(self.db)
        self.ingest = self._make_ingest(store)

    def _make_ingest(self, store: ObjectStore) -> Ingest:
        return Ingest(
            self.db,
            self.doorbell,
            self.settings,
            registry=self.registry,
            urls=self.urls,
            feed=self.feed,
            metrics=self.metrics,
            signer=self._signer,
            store=store,
        )

    async def start(self) -> None:
        """Connect; raises Unavailable or UnsafeDatabase when that cannot be done."""
        await self.db.open()
        await leases.ensure_partitions(self.db, DAYS_OF_PARTITIONS)
        await self.registry.start()
        await self.feed.start()
        self.ingest.start()
        self.replayer.start()
        await self.listener.start()

    async def stop(self) -> None:
        """Answer what is under way, then disconnect."""
        await self.ingest.stop()
        await self.replayer.stop()
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
