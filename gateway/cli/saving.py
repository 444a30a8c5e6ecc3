"""Saving what was downloaded: a file that has its name is whole."""

import sys
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import PenstockError


def save(pieces: Iterable[bytes], file: Path | None) -> None:
    """Write to a file, or to standard output without one; raises PenstockError when that cannot be."""
    try:
        if file is None:
            sys.stdout.buffer.writelines(pieces)
            return
        part = file.with_name(f".{file.name}.part")
        with part.open("wb") as target:
            target.writelines(pieces)
        part.replace(file)
    except OSError as error:
        raise PenstockError(f"{file or 'The output'} cannot be written: {error.strerror}.") from None
