"""Waiting for something to become true, in place of a sleep that is too short or too long."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(condition: Callable[[], Any | Awaitable[Any]], *, timeout: float = 5.0) -> Any:  # noqa: ASYNC109
    """Call `condition`, sync or async, until it returns something truthy, and return that; else AssertionError."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.01)
