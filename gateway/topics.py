"""Topics: the names by which watchers say what they want to hear of."""

import uuid
from collections.abc import Callable

from schemas.changes import TailedChange
from schemas.errors import Invalid

EVENT = "event"
Wanted = Callable[[TailedChange], bool]


def wanted_by(topic: str) -> Wanted:
    """Turn a topic into a test; raises Invalid that lists the topics there are."""
    name, _, value = topic.partition(":")
    if topic == "runs":
        return lambda change: change.kind == "run"
    if topic == "events":
        return lambda change: change.kind == EVENT
    if name not in _TOPICS or not value:
        known = ", ".join(["runs", "events", *(f"{name}:ID" for name in _TOPICS)])
        raise Invalid(f"There is no topic {topic!r}; the topics are {known}.")
    return _TOPICS[name](value)


def _of_run(run_id: str) -> Wanted:
    wanted = _uuid(run_id)
    return lambda change: change.run_id == wanted and change.kind != "log"


def _of_logs(run_id: str) -> Wanted:
    wanted = _uuid(run_id)
    return lambda change: change.run_id == wanted and change.kind == "log"


def _of_schedule(schedule_id: str) -> Wanted:
    wanted = _uuid(schedule_id)
    return lambda change: change.schedule_id == wanted and change.kind not in _ASKED_FOR_BY_NAME


def _of_pipeline(pipeline_id: str) -> Wanted:
    return lambda change: change.pipeline_id == pipeline_id and change.kind not in _ASKED_FOR_BY_NAME


_ASKED_FOR_BY_NAME = ("log", EVENT)


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Invalid(f"{text!r} is not an id.") from None


_TOPICS: dict[str, Callable[[str], Wanted]] = {
    "run": _of_run,
    "pipeline": _of_pipeline,
    "schedule": _of_schedule,
    "logs": _of_logs,
}
