"""The URLs that we hand out, built from what the operator says we are called, never from a request's Host."""

import uuid

from schemas.settings import Settings

EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not bound


class Urls:
    """Absolute URLs of this gateway."""

    def __init__(self, settings: Settings) -> None:
        host = "127.0.0.1" if settings.host in EVERY_ADDRESS else settings.host
        self._base = settings.public_url.rstrip("/") or f"http://{host}:{settings.port}"

    def run(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}"

    def run_stream(self, run_id: uuid.UUID) -> str:
        return f"{self._base}/v1/runs/{run_id}/stream"

    def event_body(self, event_id: uuid.UUID) -> str:
        return f"{self._base}/v1/events/{event_id}/body"

    def hook(self, schedule_id: uuid.UUID, secret: str) -> str:
        return f"{self._base}/hooks/{schedule_id}/{secret}"
