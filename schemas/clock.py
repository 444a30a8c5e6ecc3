"""The database's clock, read from afar: the only clock that says when something happened."""

import datetime as dt
import time


class DatabaseClock:
    """Learns how far the database's clock is ahead of this process's monotonic one."""

    def __init__(self) -> None:
        self.ahead_s = time.time() - time.monotonic()  # until it has learned better

    def learn(self, now: dt.datetime, *, sent_at: float, received_at: float) -> None:
        """Take an answer that gave the database's time, and when by the monotonic clock it was asked and came."""
        self.ahead_s = now.timestamp() - (sent_at + received_at) / 2

    def now(self) -> dt.datetime:
        """Tell the database's time."""
        return dt.datetime.fromtimestamp(time.monotonic() + self.ahead_s, dt.UTC)
