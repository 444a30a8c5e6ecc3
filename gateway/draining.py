"""The word that this process takes no new work: readiness turns away, open streams say goodbye and end."""

import asyncio


class Draining:
    """A switch that is thrown once, by the first signal that asks the process to end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the process is about to end."""
        return self._event.is_set()

    def start(self) -> None:
        """Tell everybody who waits; safe in a signal handler of the main thread, and more than once."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the process is about to end."""
        await self._event.wait()
