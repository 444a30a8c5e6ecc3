"""The URLs that we hand out, built from what the operator says we are called, never from a request's Host."""

import uuid

from schemas.settings import Settings, base_url


class Urls:
    """Absolute URLs of this gateway."""

    def __init__(self, settings: Settings) -> None:
        self._base = base_url(settings)

    def run(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}"

    def run_stream(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}/stream"

    def event_body(self, event_id: uuid.UUID) -> str:
        return f"{self._base}/v1/events/{event_id}/body"

    def hook(self, schedule_id: uuid.UUID, secret: str) -> str:
        return f"{self._base}/hooks/{schedule_id}/{secret}"
