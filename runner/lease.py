"""This runner's right to write: one row that is renewed, and a lock that dies with the process.

All runs hang on the one lease. When it could not be renewed for so long that others may have taken it for dead, the
runner stops everything by itself (before they can), and goes on under a new identity.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence

import asyncpg
import structlog

from runner.ownership import Ownership, Reason
from schemas import tasks
from schemas.clock import DatabaseClock
from schemas.errors import PenstockError, Unavailable
from schemas.queue import Doorbell
from schemas.settings import Settings
from schemas.store import leases
from schemas.store.db import AWAY, Database

log = structlog.get_logger()

MARGIN_S = 1.0
RETRY_S = 0.1


class Lease:
    """Renews the lease, hears of cancels, and hands back what is ours by mistake."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        settings: Settings,
        *,
        clock: DatabaseClock,
        owned: dict[uuid.UUID, Ownership],
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._settings = settings
        self._clock = clock
        self._owned = owned
        self._strays: frozenset[uuid.UUID] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._renamed = asyncio.Event()
        self.runner_id = uuid.uuid4()

    async def start(self) -> None:
        """Take the lock, register, and begin to renew."""
        holding = asyncio.Event()
        self._tasks = [asyncio.create_task(self._hold_lock(holding.set))]
        await holding.wait()
        await self._register()
        self._tasks.append(asyncio.create_task(self._renew_for_ever()))

    async def stop(self) -> None:
        """Hand back what is still owned, and leave."""
        await tasks.end(self._tasks)
        with contextlib.suppress(PenstockError):
            await self._release(frozenset(self._owned))
            await leases.unregister(self._db, self.runner_id)

    def hear_cancel(self, _payload: bytes | None) -> None:
        """Look at once: somebody cancelled a run, perhaps one of ours."""
        self._wake.set()

    async def _register(self) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}"
        queues = self._settings.queues.split(",")
        await leases.register(self._db, self.runner_id, name=name, lease_s=self._settings.lease_s, queues=queues)

    async def _renew_for_ever(self) -> None:
        trusted_until = time.monotonic() + self._settings.lease_s - MARGIN_S
        while True:
            self._wake.clear()
            begun = time.monotonic()
            held = list(self._owned.values())
            try:
                async with asyncio.timeout(self._settings.lease_s / 2):
                    beat = await leases.beat(self._db, self.runner_id, lease_s=self._settings.lease_s)
            except (Unavailable, TimeoutError):
                await self._miss_a_beat(trusted_until)
                continue
            except Exception:
                log.exception("lease not renewed, trying again")
                await self._miss_a_beat(trusted_until)
                continue
            if beat is None:
                await self._start_over()
            else:
                self._clock.learn(beat.now, sent_at=begun, received_at=time.monotonic())
                await self._obey(beat, held)
            trusted_until = begun + self._settings.lease_s - MARGIN_S
            await tasks.set_within(self._wake, self._settings.heartbeat_s)

    async def _miss_a_beat(self, trusted_until: float) -> None:
        if time.monotonic() > trusted_until and self._has_more_to_lose():
            self._lose_everything("the lease could not be renewed")
        await asyncio.sleep(RETRY_S)

    async def _obey(self, beat: leases.Beat, held: Sequence[Ownership]) -> None:
        """Stop what shall be cancelled and what is not ours any more, and hand back what we do not know to be ours.

        `held` is what was ours before the beat was sent: what it does not hear of has ended or was taken away.
        """
        for ownership in held:
            if ownership.run.id not in beat.owned:
                ownership.stop(Reason.LOST)
        for run_id in beat.cancel & self._owned.keys():
            self._owned[run_id].stop(Reason.CANCELLED)
        # Ours in the database, unknown here, and that twice in a row: a claim was committed but never heard of.
        strays = beat.owned - self._owned.keys()
        await self._release(strays & self._strays)
        self._strays = strays

    async def _release(self, run_ids: frozenset[uuid.UUID]) -> None:
        if run_ids:
            rings = await leases.release(self._db, self.runner_id, run_ids)
            self._doorbell.ring(rings)
            self._doorbell.tell(ring.run_id for ring in rings)

    async def _start_over(self) -> None:
        """Others took this runner for dead: what it has is theirs now, and it goes on as a new one."""
        self._lose_everything("others took this runner for dead")
        self.runner_id = uuid.uuid4()
        self._renamed.set()
        with contextlib.suppress(PenstockError):
            await self._register()

    def _has_more_to_lose(self) -> bool:
        return any(ownership.reason is not Reason.LOST for ownership in self._owned.values())

    def _lose_everything(self, why: str) -> None:
        log.warning("lease lost", why=why, runs=len(self._owned))
        for ownership in self._owned.values():
            ownership.stop(Reason.LOST)

    async def _hold_lock(self, holding: Callable[[], None]) -> None:
        """Keep a connection of its own whose lock says that this process lives; a lost one is made anew."""
        while True:
            with contextlib.suppress(*AWAY, asyncpg.PostgresError):
                connection = await asyncpg.connect(self._settings.database_url, timeout=self._settings.lease_s)
                try:
                    self._renamed.clear()
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
                    await leases.hold_alive_lock(connection, self.runner_id)
                    holding()
                    await _first_of(gone, self._renamed)
                finally:
                    connection.terminate()
            await asyncio.sleep(RETRY_S)


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
