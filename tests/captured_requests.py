"""Requests as senders sent them, kept as text: one `.http` file each, its body the bytes after the first empty line.

Beside `push.http` lies `push.json`, what is read in it; `push.tampered.http` is a twin that must be refused. A line
`x-captured-at: <unix seconds>` among the headers is the clock under which the request is judged, and a file
`documents.json` in the folder names the files of what its scheme asks to be fetched, by URL.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from gateway.intake import header_map
from gateway.sources import Facts, Incoming, Reply, discover
from schemas.schedules import SourceConfig

SOURCES = Path(__file__).parent / "fixtures" / "sources"


class Expected(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is read in a captured request: its facts, the reply to a handshake, and its items when it is split."""

    event_type: str | None = None
    delivery_id: str | None = None
    handshake: str | None = None
    visit: str | None = None
    reply: dict[str, Any] | None = None
    items: list[dict[str, Any]] | None = None


def read_request(path: Path) -> Incoming:
    """Read a captured request the way the gateway would have."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    request_line, *lines = head.split(b"\n")
    method, target, _ = request_line.decode().split(" ")
    split = (line.partition(b": ") for line in lines)
    headers = header_map((name.lower(), value) for name, _, value in split)
    now = float(headers.pop("x-captured-at", "0"))
    return Incoming(
        headers,
        body,
        method=method,
        url=f"https://{headers.get('host', 'penstock.example.com')}{target}",
        query=dict(parse_qsl(urlsplit(target).query, keep_blank_values=True)),
        now=now,
        documents=_documents(path.parent),
    )


def read_config(source: str) -> SourceConfig:
    """Read the configuration under which a source's requests were captured."""
    return msgspec.json.decode((SOURCES / source / "config.json").read_bytes(), type=SourceConfig)


def read_expected(path: Path) -> Expected:
    """Read what a captured request says."""
    return msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Expected)


def show(source: str, request: Incoming) -> Expected:
    """Verify a request and show what is read in it, as the files beside them do; raises BadSignature."""
    found, config = discover()[source], read_config(source)
    if request.method != "POST":
        greeted = found.greet(request, config) if found.greet else None
        if not isinstance(greeted, Incoming):
            return Expected(reply=_show_reply(greeted))
        request = greeted
    found.verify(request, config)
    facts: Facts = found.facts(request, config)
    shaken = facts.handshake
    items = found.split(request) if found.split and not shaken else None
    return Expected(
        event_type=facts.event_type,
        delivery_id=facts.delivery_id,
        handshake=shaken and shaken.kind,
        visit=shaken and shaken.visit,
        reply=_show_reply(shaken.reply) if shaken else None,
        items=[msgspec.to_builtins(item) for item in items] if items is not None else None,
    )


def _show_reply(reply: Reply | None) -> dict[str, Any] | None:
    return reply and msgspec.to_builtins(reply, str_keys=True) | {"body": reply.body.decode()}


def captured(*, tampered: bool) -> list[str]:
    """List the captured requests of all sources, those that somebody tampered with or those that nobody did."""
    found = (path.relative_to(SOURCES).as_posix() for path in sorted(SOURCES.glob("*/*.http")))
    return [name for name in found if name.endswith(".tampered.http") == tampered]


def _documents(folder: Path) -> dict[str, bytes]:
    index = folder / "documents.json"
    if not index.is_file():
        return {}
    return {url: (folder / name).read_bytes() for url, name in msgspec.json.decode(index.read_bytes()).items()}
