"""The URLs that we hand out, built from what the operator says we are called, never from a request's Host."""

import uuid
from urllib.parse import urlsplit

from schemas.settings import Settings


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server bound to `host`, which may mean every address."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class Urls:
    """Absolute URLs of this gateway."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.public_url.rstrip("/") or local_url(settings.host, settings.port)

    @property
    def origin(self) -> str:
        """What browsers call the pages that come from here (RFC 6454, section 6.2)."""
        parts = urlsplit(self._base)
        return f"{parts.scheme}://{parts.netloc}"

    def run(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}"

    def run_stream(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}/stream"

    def backfill(self, backfill_id: uuid.UUID) -> str:
        return f"{self._base}/v1/backfills/{backfill_id}"

    def event_body(self, event_id: uuid.UUID) -> str:
        return f"{self._base}/v1/events/{event_id}/body"

    def hook(self, schedule_id: uuid.UUID, secret: str) -> str:
        return f"{self._base}/hooks/{schedule_id}/{secret}"
