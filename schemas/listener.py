"""One Redis subscription per process: it outlives Redis, and says when it may have missed something."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from schemas import tasks
from schemas.queue import REDIS_FAULTS, connect

log = structlog.get_logger()

Hear = Callable[[bytes | None], None]
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class Listener:
    """Calls `hear(payload)` for each message of a channel, and `hear(None)` after each (re)connection."""

    def __init__(self, redis_url: str, channels: Mapping[str, Hear]) -> None:
        self._redis = connect(redis_url, patient=True)
        self._channels = {name.encode(): hear for name, hear in channels.items()}
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen; `listening` is set while the subscription stands."""
        self._task = asyncio.create_task(self._listen_for_ever())

    async def stop(self) -> None:
        """Stop listening."""
        await tasks.end([self._task])
        await self._redis.aclose()

    async def _listen_for_ever(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._listen()
            except REDIS_FAULTS as error:
                if self.listening.is_set():
                    log.warning("redis is away, polling meanwhile", error=type(error).__name__)
                    pause = FIRST_PAUSE_S
            self.listening.clear()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(*self._channels)
            async for message in subscription.listen():
                hear = self._channels[message["channel"]]
                if message["type"] == "subscribe":
                    self.listening.set()
                    hear(None)
                elif message["type"] == "message":
                    hear(message["data"])
