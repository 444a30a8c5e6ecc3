"""Ending background tasks so that they have ended."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_AFTER_S = 0.5


async def end(tasks: Iterable["asyncio.Task[Any] | None"]) -> None:
    """Cancel tasks and wait until they are gone; a cancellation that a library swallowed is sent again."""
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_AFTER_S)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so long, and say whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
