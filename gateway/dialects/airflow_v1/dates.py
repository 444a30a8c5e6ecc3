"""Dates, as Airflow 2 reads and writes them: `2024-06-15T00:00:00+00:00`."""

import datetime as dt

from gateway.dialects.airflow_v1.errors import titled


def write(moment: dt.datetime) -> str:
    """Write a moment, which is in UTC as all of ours are, with a fraction only if it has one."""
    return moment.isoformat()


def write_if_any(moment: dt.datetime | None) -> str | None:
    """Write a moment, or null."""
    return None if moment is None else write(moment)


def read(text: str) -> dt.datetime:
    """Read an ISO 8601 date, with or without a time and an offset (then it is UTC); raises Refused."""
    found = _parse(text)
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else _in_utc(found, text)


def read_zoned(text: str) -> dt.datetime:
    """Read an ISO 8601 date that says its offset; raises Refused."""
    found = _parse(text)
    if found.tzinfo is None:
        raise titled("Invalid datetime format", "Naive datetime is disallowed")
    return _in_utc(found, text)


def incorrect(detail: str) -> Exception:
    """Say that something is no date."""
    return titled("Incorrect datetime argument", detail)


def _parse(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise incorrect(f"Unable to parse string [{text}]") from None


def _in_utc(moment: dt.datetime, text: str) -> dt.datetime:
    try:
        return moment.astimezone(dt.UTC)
    except (OverflowError, ValueError):
        raise incorrect(f"Unable to parse string [{text}]") from None
