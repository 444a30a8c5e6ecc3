"""Requests as senders sent them, kept as text: one `.http` file each, its body the bytes after the first empty line."""

from pathlib import Path

import msgspec

from gateway.intake import header_map
from gateway.sources import Incoming
from schemas.schedules import SourceConfig

SOURCES = Path(__file__).parent / "fixtures" / "sources"


def read_request(path: Path) -> Incoming:
    """Read a captured request the way the gateway would have."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    lines = (line.partition(b": ") for line in head.split(b"\n")[1:])
    return Incoming(header_map((name.lower(), value) for name, _, value in lines), body)


def read_config(source: str) -> SourceConfig:
    """Read the configuration under which a source's requests were captured."""
    return msgspec.json.decode((SOURCES / source / "config.json").read_bytes(), type=SourceConfig)


def captured(*, tampered: bool) -> list[str]:
    """List the captured requests of all sources, those that somebody tampered with or those that nobody did."""
    found = (path.relative_to(SOURCES).as_posix() for path in sorted(SOURCES.glob("*/*.http")))
    return [name for name in found if name.endswith(".tampered.http") == tampered]
