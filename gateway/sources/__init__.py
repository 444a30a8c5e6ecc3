"""Who sends: one file per source, found by being here.

A source is a module-level `source = Source(...)`: which schemes prove its requests, and pure functions that read what
it sent. No I/O, no clock but `incoming.now`. It also needs a folder of captured requests in `tests/fixtures/sources/`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from gateway.incoming import Incoming
from gateway.schemes import Scheme
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig

__all__ = ["Facts", "Handshake", "Incoming", "Item", "Reply", "Sample", "Source", "discover"]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in the sender's exact form."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """A request that only asks whether we are here: it is answered and written down, and never becomes a run.

    Without a `reply` the usual answer is given. `visit` is an address, of a host that is allowed, that must be fetched
    before the sender counts us as confirmed.
    """

    kind: str
    reply: Reply | None = None
    visit: str | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source can tell of a delivery."""

    event_type: str | None = None
    delivery_id: str | None = None
    handshake: Handshake | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One of several things that came in one delivery, when the schedule splits them.

    `payload` is any JSON value: the `event_variables` of its run. `id` makes it unique among the items of the schedule,
    also over deliveries that overlap; without one only the delivery as a whole is unique.
    """

    payload: Any
    id: str | None = None
    event_type: str | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A request as this sender would make it, before it is signed, for `penstock send`.

    `{uuid}` and `{now}` in headers and body become fresh ones.
    """

    body: bytes
    headers: Mapping[str, str] = {}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of sender proves itself and names what it sends.

    `schemes` are the proofs that it may use: the first that applies to a request must verify, there is no falling back.
    Without any, or with `is_optional` while nothing is configured, the token in the URL is the proof. `takes` names the
    fields of `source_config` that are read besides those of the schemes. `read` and `split` get verified requests only,
    and must not raise whatever the bytes are. `greet` answers requests other than POST, such as a challenge, or
    returns one that is to be taken as a delivery; None is a 405. `setup` says what a user does at the sender's side.
    """

    name: str
    title: str
    schemes: tuple[Scheme, ...] = ()
    is_optional: bool = False
    takes: tuple[str, ...] = ()
    read: Callable[[Incoming], Facts]
    split: Callable[[Incoming], Sequence[Item]] | None = None
    greet: Callable[[Incoming, SourceConfig], Reply | Incoming | None] | None = None
    setup: str = ""
    samples: Mapping[str, Sample] = {}

    def scheme(self, incoming: Incoming, config: SourceConfig) -> Scheme | None:
        """Choose the scheme that has to verify; raises BadSignature when the request carries no proof."""
        configured = [scheme for scheme in self.schemes if all(getattr(config, name) for name in scheme.needs)]
        for scheme in configured:
            if scheme.applies(incoming):
                return scheme
        if configured:
            return configured[0]
        if self.schemes and not self.is_optional:
            raise BadSignature(f"No secret of {self.title} is configured, so nothing can be verified.")
        return None

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Check the proof over the raw bytes, before anything is parsed; raises BadSignature and nothing else."""
        if scheme := self.scheme(incoming, config):
            scheme.verify(incoming, config)


@cache
def discover() -> Mapping[str, Source]:
    """Find all sources by name."""
    modules = [importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return {module.source.name: module.source for module in modules}
