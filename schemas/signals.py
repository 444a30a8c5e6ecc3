"""Answers from outside that blocks wait for."""

import datetime as dt
import uuid

import msgspec


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """The wait of one block: whether its request was taken, how long ago, and the answer once it was received."""

    id: uuid.UUID
    round: int
    hash: bytes
    sent_at: dt.datetime | None
    waited_s: float
    received_at: dt.datetime | None
    payload: msgspec.Raw

    @property
    def is_used(self) -> bool:
        """Whether this round's request was taken or answered, so that trying again means asking anew."""
        return self.sent_at is not None or self.received_at is not None
