"""How deliveries fare here, and how many runs wait and execute everywhere.

No label ever holds what a sender chose: a token in a label would be a leak, and an endless set of labels a fault.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.deliveries = Counter(
            "penstock_deliveries", "Deliveries answered with 2xx.", ["source", "status"], registry=registry
        )
        self.refused = Counter("penstock_refused", "Deliveries answered otherwise.", ["reason"], registry=registry)
        self.delivery_seconds = Histogram(
            "penstock_delivery_seconds", "From a delivery's head to its commit.", buckets=BUCKETS_S, registry=registry
        )
        self.active_runs = Gauge("penstock_active_runs", "Runs in this state, in all.", ["state"], registry=registry)
        self.doorbell = Gauge("penstock_doorbell_up", "1 while Redis takes our rings.", registry=registry)

    def text(self) -> bytes:
        """Write all figures in the Prometheus text format."""
        return generate_latest(self._registry)
