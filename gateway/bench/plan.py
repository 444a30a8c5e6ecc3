"""How much is measured."""

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size of every measurement; `penstock bench --seconds` sets the first, tests make all of it tiny.

    `seconds` is the length of one window, `rounds` how often things that are compared take turns, `slow_connections`
    what the slow disk is loaded with, `repeats` how many runners are killed, `stored_runs` and `stored_events` how long
    a history is.
    """

    seconds: float = 5.0
    rounds: int = 3
    connections: int = 64
    slow_connections: int = 256
    repeats: int = 5
    watchers: tuple[int, ...] = (200, 1000)
    pause_s: float = 0.02
    stored_runs: int = 1_000_000
    stored_events: int = 3_000_000

    @property
    def runs(self) -> int:
        """How many runs a queue is filled with."""
        return max(20, round(1000 * self.seconds))

    @property
    def limit_s(self) -> float:
        """When a measurement is given up."""
        return 90 + 60 * self.seconds + (self.stored_runs + self.stored_events) / 4000
