"""The URLs that we hand out, built from what the operator says we are called, never from a request's Host."""

import uuid
from urllib.parse import quote, urlsplit

from schemas.settings import Settings, base_url, event_body_url


class Urls:
    """Absolute URLs of this gateway."""

    def __init__(self, settings: Settings) -> None:
        self._base = base_url(settings)

    @property
    def origin(self) -> str:
        """What browsers call the pages that come from here (RFC 6454, section 6.2)."""
        parts = urlsplit(self._base)
        return f"{parts.scheme}://{parts.netloc}"

    def called(self, raw_path: bytes, query_string: bytes) -> str:
        """Say what address a sender called, who may have signed it."""
        query = "?" + query_string.decode("latin-1") if query_string else ""
        return self._base + raw_path.decode("latin-1") + query

    def resource(self, path: str, key: str) -> str:
        return f"{self._base}/v1/{path}/{quote(key, safe='')}"

    def run(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}"

    def run_stream(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}/stream"

    def backfill(self, backfill_id: uuid.UUID) -> str:
        return f"{self._base}/v1/backfills/{backfill_id}"

    def event_body(self, event_id: uuid.UUID) -> str:
        return event_body_url(self._base, event_id)

    def hook(self, schedule_id: uuid.UUID, secret: str) -> str:
        return f"{self._base}/hooks/{schedule_id}/{secret}"
