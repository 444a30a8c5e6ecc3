"""Any system that can POST: the token is the proof."""

from gateway import delivery_ids
from gateway.sources import Facts, Incoming, Source
from schemas.schedules import SourceConfig


def _verify(_incoming: Incoming, _config: SourceConfig) -> None:
    """The token in the request was proof enough."""


def _read(incoming: Incoming) -> Facts:
    return Facts(
        event_type=incoming.headers.get("ce-type"), delivery_id=delivery_ids.find(incoming.headers, incoming.body)
    )


source = Source(name="generic", title="Any system that can POST", needs_secret=False, verify=_verify, read=_read)
