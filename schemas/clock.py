"""The database's clock, read from afar: the only clock that says when something happened."""

import datetime as dt
import time


class DatabaseClock:
    """Learns how far the database's clock is ahead of this process's monotonic one."""

    def __init__(self) -> None:
        self.ahead_s = time.time() - time.monotonic()  # until it has learned better

    def learn(self, now: dt.datetime, *, sent_at: float, received_at: float) -> None:
        """Take an answer that gave the database's time, and when by the monotonic clock it was asked and came.

        The true difference lies between the two; an estimate that does so already is kept, so that moments taken before
        and after an answer stay in order.
        """
        least, most = now.timestamp() - received_at, now.timestamp() - sent_at
        if not least <= self.ahead_s <= most:
            self.ahead_s = (least + most) / 2

    def now(self) -> dt.datetime:
        """Tell the database's time."""
        return dt.datetime.fromtimestamp(time.monotonic() + self.ahead_s, dt.UTC)
