"""A body that is too large for a row, and where it lies."""

import hashlib
from pathlib import Path

LARGE = b"[" + b'"\xc3\xbc",' * 200_000 + b"1]"


def objects_in(place: Path) -> list[str]:
    """Name the objects of a store, as keys."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and "#" not in path.name)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def take_away(place: Path) -> Path:
    """Let there be no folder where the store has its place, and say where it is meanwhile."""
    aside = place.with_name("aside")
    if place.exists():
        place.rename(aside)
    place.write_text("not a folder")
    return aside


def give_back(place: Path, aside: Path) -> None:
    place.unlink()
    if aside.exists():
        aside.rename(place)
