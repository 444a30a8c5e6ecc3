"""Exceptions of user code as text that a pipeline author can read: their frames, their file names, bounded."""

import sys
import traceback
from pathlib import Path
from types import CodeType

from runner.lines import clean
from schemas.errors import PenstockError

TRACEBACK_LIMIT = 16 << 10
_FRAME_LIMIT = 100
_OUR_FILES = str(Path(__file__).parent) + "/"


def message_of(error: BaseException) -> str:
    """Return the text of an exception, also of one whose `__str__` fails."""
    try:
        return clean(str(error))
    except BaseException as failure:  # noqa: BLE001  (a __str__ may even call sys.exit)
        return f"<its text cannot be shown: {type(failure).__name__}>"


def explain(error: BaseException, directory: Path, *, path: str) -> str:
    """Return one line for a file that does not load: `orders.py:3: ValueError: no region`.

    The place is the innermost one in the pipelines directory, else the file itself.
    """
    name = "" if isinstance(error, PenstockError) else f"{type(error).__name__}: "
    text = error.msg if isinstance(error, SyntaxError) else message_of(error)
    message = text.replace(f"{directory}/", "")
    return f"{_place(error, directory) or f'{path}: '}{name}{message}"


def relative_place(code: CodeType, directory: Path) -> str:
    """Return where a function is defined: `orders.py:12: `."""
    return f"{_shorten(code.co_filename, directory)}:{code.co_firstlineno}: "


def format_traceback(error: BaseException, directory: Path) -> str:
    """Return the traceback from the first frame of user code on, at most 16 KiB; long ones lose their beginning."""
    try:
        summary = traceback.TracebackException.from_exception(error, limit=-_FRAME_LIMIT, compact=True)
        _trim(summary, directory)
        text = "".join(summary.format())
    except Exception as failure:  # noqa: BLE001  (formatting runs __repr__ of the user's objects)
        return f"<the traceback cannot be shown: {type(failure).__name__}>"
    if len(text) > TRACEBACK_LIMIT:
        text = "…" + text[-TRACEBACK_LIMIT:]
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _place(error: BaseException, directory: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shorten(error.filename, directory)}:{error.lineno}: "
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_within(frame.filename, directory)]
    return f"{_shorten(theirs[-1].filename, directory)}:{theirs[-1].lineno}: " if theirs else ""


def _trim(summary: traceback.TracebackException, directory: Path) -> None:
    frames = [frame for frame in summary.stack if not frame.filename.startswith((_OUR_FILES, "<frozen "))]
    first = next((i for i, frame in enumerate(frames) if _is_within(frame.filename, directory)), 0)
    summary.stack[:] = frames[first:]
    for frame in summary.stack:
        frame.filename = _shorten(frame.filename, directory)
    related = [summary.__cause__, summary.__context__, *(summary.exceptions or ())]
    for other in related:
        if other is not None:
            _trim(other, directory)


def _is_within(filename: str, directory: Path) -> bool:
    return filename.startswith(f"{directory}/")


def _shorten(filename: str, directory: Path) -> str:
    """Drop the machine's part of a path: relative to the pipelines directory, or to where it was imported from."""
    for folder in (str(directory), *sorted(filter(None, sys.path), key=len, reverse=True)):
        if filename.startswith(f"{folder}/"):
            return filename.removeprefix(f"{folder}/")
    return filename
