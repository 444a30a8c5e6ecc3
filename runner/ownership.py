"""Why a run that we execute must stop, told to everyone who works on it."""

import asyncio
from enum import Enum, auto

from schemas.runs import Claimed


class Reason(Enum):
    """Why a run stops before its blocks are done; a later, stronger reason replaces a weaker one."""

    TIMED_OUT = auto()  # its time is up: the run ends as failed
    CANCELLED = auto()  # somebody asked for it: the run ends as cancelled
    RELEASED = auto()  # this runner drains: the run goes back to the queue
    LOST = auto()  # the lease is gone: nothing more may be written


class Ownership:
    """A run that this runner owns, from its claim to its last commit."""

    def __init__(self, run: Claimed) -> None:
        self.run = run
        self.reason: Reason | None = None
        self.stopped = asyncio.Event()
        self.gone = asyncio.Event()  # and callbacks stop, too

    def stop(self, reason: Reason) -> None:
        """Let no new block start, and end those that execute."""
        if self.reason is None or reason.value > self.reason.value:
            self.reason = reason
        self.stopped.set()
        if not self.may_write:
            self.gone.set()

    @property
    def may_write(self) -> bool:
        """Whether what happens to the run is still ours to write."""
        return self.reason not in (Reason.LOST, Reason.RELEASED)
