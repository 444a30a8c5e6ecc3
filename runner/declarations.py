"""What an author says about a function, checked word by word: a mistake is an Invalid with its place and its remedy."""

import inspect
import math
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from schemas.errors import Invalid
from schemas.states import CallbackOn, TriggerRule

E = TypeVar("E", bound=StrEnum)
RUN = "run"
MOST_CHARACTERS = 500  # of the name of a dataset
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_ID_RULE = "use letters, digits, `_`, `.` and `-`, at most 200, not starting with `.` or `-`"
_QUEUE = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,62}")
_QUEUE_RULE = "use lower-case letters, digits, `_`, `.` and `-`, at most 63, not starting with `.` or `-`"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A function, and how often and how long it may try (seconds)."""

    function: Callable[..., Any]
    retries: int
    retry_delay: float
    timeout: float | None


class DeclaredBlock(Declared, frozen=True, kw_only=True):
    """A function that is a block; other blocks are named and not resolved yet."""

    after: tuple[str, ...]
    trigger_rule: TriggerRule
    map: str | None
    queue: str | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class DeclaredCallback(Declared, frozen=True, kw_only=True):
    """A function that is called when the run, or one of these blocks, has ended in this way."""

    on: CallbackOn
    block: str | None


def check_pipeline(pipeline_id: str, *, max_active_runs: int | None, queue: str, timeout: float | None) -> None:
    """Raise Invalid for what `pipeline(...)` does not take."""
    if not _ID.fullmatch(pipeline_id):
        raise Invalid(f"{pipeline_id!r} cannot be the id of a pipeline: {_ID_RULE}")
    where = f"pipeline {pipeline_id!r}"
    if max_active_runs is not None and max_active_runs < 1:
        raise Invalid(f"{where}: max_active_runs is {max_active_runs}, it must be at least 1")
    check_queue(where, queue)
    _check_timeout(where, timeout)


def check_id(where: str, function_id: str) -> None:
    """Raise Invalid for what cannot be the id of a block or callback."""
    if not _ID.fullmatch(function_id):
        raise Invalid(f"{where}: the id is not allowed: {_ID_RULE}")
    if function_id == RUN:
        raise Invalid(f"{where}: a block cannot be named `run`, that parameter receives the Run")


def check(where: str, declared: Declared) -> None:
    """Raise Invalid for wrong retries and times, and for a function that yields."""
    if declared.retries < 0:
        raise Invalid(f"{where}: retries is {declared.retries}, it must not be negative")
    if not 0 <= declared.retry_delay < math.inf:
        raise Invalid(f"{where}: retry_delay is {declared.retry_delay}, it must not be negative")
    _check_timeout(where, declared.timeout)
    if inspect.isgeneratorfunction(declared.function) or inspect.isasyncgenfunction(declared.function):
        raise Invalid(f"{where}: it yields, but the output of a block is what it returns; return a list")


def check_queue(where: str, queue: object) -> None:
    """Raise Invalid for what cannot be the name of a queue."""
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise Invalid(f"{where}: queue is {queue!r}: {_QUEUE_RULE}")


def names(where: str, word: str, given: Iterable[str]) -> tuple[str, ...]:
    """Read a list of names, each of them once; raises Invalid."""
    if isinstance(given, str):
        raise Invalid(f'{where}: {word} is {given!r}, but it is a list of names: {word}=["{given}"]')
    try:
        found = tuple(dict.fromkeys(given))
    except TypeError:
        raise Invalid(f"{where}: {word} is {given!r}, but it is a list of names") from None
    for name in found:
        if not isinstance(name, str) or not 0 < len(name) <= MOST_CHARACTERS or not name.isprintable():
            raise Invalid(f"{where}: {word} has {name!r}, but a name is printable text of 1 to {MOST_CHARACTERS}")
    return found


def choice(where: str, word: str, given: Any, kind: type[E]) -> E:
    """Read one of the words of an enum; raises Invalid."""
    try:
        return kind(given)
    except ValueError:
        raise Invalid(f"{where}: {word} is {given!r}, it must be one of {', '.join(kind)}") from None


def _check_timeout(where: str, timeout: float | None) -> None:
    if timeout is not None and not 0 < timeout < math.inf:
        raise Invalid(f"{where}: timeout is {timeout}, it must be more than 0 seconds")
