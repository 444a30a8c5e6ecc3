"""The runner as a process: connect, read the pipelines, hear the doorbell, drain, end."""

import asyncio
import contextlib
import signal
import sys
import uuid
from pathlib import Path

import structlog
import uvloop

import migrations
from runner.callbacks import Callbacks
from runner.dry_runs import DryRuns
from runner.hosts import Hosts
from runner.housekeeping import Housekeeping
from runner.jobs import Jobs
from runner.lease import Lease
from runner.library import Library
from runner.ownership import Ownership
from runner.recorder import Recorder
from runner.remotes import Remotes
from runner.scheduler import Scheduler
from runner.spool import Spool
from runner.sweeper import Sweeper
from runner.worker import DoorbellWorker
from schemas import garbage, queue, settings, tasks, telemetry
from schemas.changes import Channels
from schemas.clock import DatabaseClock
from schemas.errors import PenstockError, SettingsError
from schemas.listener import Hear, Listener
from schemas.objects import ObjectStore, store_place
from schemas.queue import Doorbell
from schemas.settings import Settings
from schemas.store.db import Database

log = structlog.get_logger()

LAST_COMMITS_S = 3.0  # with Postgres away, others find out by the lease


class Runner:
    """Everything that one runner is made of."""

    def __init__(self, config: Settings) -> None:
        self._settings = config
        self._directory = Path(config.pipelines)
        self._db = Database(config.database_url, size=config.database_pool, name="penstock runner")
        self._redis = queue.connect(config.redis_url)
        queues = config.queues.split(",")
        self._doorbell = Doorbell(self._redis, prefix=config.redis_prefix, queues=queues)
        owned: dict[uuid.UUID, Ownership] = {}
        self._hosts = Hosts(self._directory, warm=config.hosts, limit=config.max_hosts, memory_mb=config.host_memory_mb)
        store = ObjectStore(store_place(config.store, config.data))
        self._spool = Spool(store, output_limit=config.output_limit, base_url=settings.base_url(config))
        self._library = Library(self._db, self._hosts, directory=self._directory, reload=config.reload)
        clock = DatabaseClock()
        self._lease = Lease(self._db, self._doorbell, config, clock=clock, owned=owned)
        self._recorder = Recorder(self._db, self._doorbell, clock=clock)
        self._remotes = Remotes(self._db, config)
        self._callbacks = Callbacks(self._db, config, clock=clock)
        self._jobs = self._make_jobs(owned, queues)
        name = queue.queue_name(config.redis_prefix, queues[0])
        self._worker = DoorbellWorker(
            self._jobs.execute_run, self._doorbell, pool=self._redis, queue=name, max_jobs=config.max_runs
        )
        self._sweeper = Sweeper(
            self._db,
            self._doorbell,
            config,
            library=self._library,
            start_without_doorbell=self._worker.start_without_doorbell,
        )
        self._dry_runs = DryRuns(self._db, self._lease, self._library, self._hosts, self._spool)
        self._chores = (Scheduler(self._db, self._doorbell), Housekeeping(self._db, config, store))
        self._listener = Listener(config.redis_url, self._ears(Channels(config.redis_prefix)))

    def _make_jobs(self, owned: dict[uuid.UUID, Ownership], queues: list[str]) -> Jobs:
        return Jobs(
            self._db,
            self._doorbell,
            lease=self._lease,
            library=self._library,
            hosts=self._hosts,
            spool=self._spool,
            recorder=self._recorder,
            remotes=self._remotes,
            owned=owned,
            queues=queues,
            slot_freed=lambda: self._sweeper.wake(),
            callback_due=self._callbacks.wake,
        )

    def _ears(self, channels: Channels) -> dict[str, Hear]:
        """Say who listens to which channel."""
        return {
            channels.wake: self._worker.hear,
            channels.cancel: self._lease.hear_cancel,
            channels.dry_runs: self._dry_runs.hear,
            channels.registry: self._sweeper.hear_registry,
            channels.callbacks: self._callbacks.wake,
            channels.signals: self._remotes.hear,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Execute runs until `stop`, then drain; raises SettingsError when this runner must not start."""
        config = self._settings
        if not self._directory.is_dir():
            raise SettingsError(f"PENSTOCK_PIPELINES: there is no directory {self._directory}.")
        await migrations.check(config.database_url)
        self._spool.open()
        await self._db.open()
        await self._hosts.start()
        await self._library.start()
        await self._lease.start()
        await self._sweeper.start()
        await self._callbacks.start()
        for chore in self._chores:
            await chore.start()
        await self._dry_runs.start()
        await self._listener.start()
        working = asyncio.create_task(self._worker.main())
        garbage.collect_less()
        log.info("runner is ready", runner_id=str(self._lease.runner_id))
        await stop.wait()
        log.info("runner drains")
        self._jobs.drain()
        await self._dry_runs.stop()
        await self._worker.drain(config.drain_s)
        self._jobs.let_go()
        await tasks.end([working])
        await self._end()

    async def _end(self) -> None:
        await self._listener.stop()
        await self._library.stop()
        for chore in self._chores:
            await chore.stop()
        await self._sweeper.stop()
        await self._callbacks.stop()
        await self._remotes.stop()
        await self._hosts.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_COMMITS_S):
                await self._jobs.close()
                await self._recorder.close()
        await self._lease.stop()
        await self._doorbell.flush()
        await self._db.close()
        await self._redis.aclose()
        self._spool.close()


async def _run(config: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Runner(config).run(stop)


def main() -> int:
    """Run until a signal asks to end; 1 when the runner cannot start, with the reason on stderr."""
    try:
        config = settings.load()
        telemetry.configure(config, role="runner")
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_run(config))
    except PenstockError as error:
        sys.stderr.write(f"penstock: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
