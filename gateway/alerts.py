"""Alerts as Alertmanager and Grafana write them."""

from typing import Any

from gateway import members


def alert_id(alert: dict[str, Any]) -> str | None:
    """Name one state of one alert: it may fire again later, and what has ended says when."""
    fingerprint, status = members.text(alert, "fingerprint"), members.text(alert, "status")
    starts_at = members.text(alert, "startsAt")
    if not (fingerprint and status and starts_at):
        return None
    ends_at = members.text(alert, "endsAt") if status == "resolved" else None
    return f"alert:{fingerprint}:{starts_at}:{status}:{ends_at or ''}"
