"""Alerts as Alertmanager and Grafana write them."""

from typing import Any

from gateway import members
from gateway.incoming import Item, text_at


def read(document: Any) -> list[Item]:
    """Read the alerts of a group, which is told again with every change in it: each is new once per state."""
    return [
        Item(payload=alert, id=_id(alert), event_type=text_at(alert, "status"))
        for alert in members.objects(document, "alerts")
    ]


def _id(alert: dict[str, Any]) -> str | None:
    """Name one state of one alert: it may fire again later, and what has ended says when."""
    fingerprint, status = text_at(alert, "fingerprint"), text_at(alert, "status")
    starts_at = text_at(alert, "startsAt")
    if not (fingerprint and status and starts_at):
        return None
    ends_at = text_at(alert, "endsAt") if status == "resolved" else None
    return f"alert:{fingerprint}:{starts_at}:{status}:{ends_at or ''}"
