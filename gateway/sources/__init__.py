"""Who sends: one file per source, found by being here.

A source is a module-level `source = Source(...)`: which schemes prove its requests, and pure functions that read what
it sent. No I/O, no clock but `incoming.now`. It also needs a folder of captured requests in `tests/fixtures/sources/`.
"""

import datetime as dt
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import msgspec

from gateway.incoming import Incoming, Item
from gateway.schemes import Scheme
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig

__all__ = ["Facts", "Handshake", "Incoming", "Item", "Reply", "Sample", "Source", "discover", "find"]


LONGEST_EVENT_TYPE = 250  # what is longer is cut: every list and every watcher gets it


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


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A request as this sender would make it, before it is signed, for `penstock send`.

    In headers and body stand `{uuid}` for a fresh id, `{now}` for the time as RFC 3339 text, and `{unix}` for the same
    in seconds since 1970.
    """

    body: bytes
    headers: Mapping[str, str] = {}

    def fill(self, now: float, fresh: str) -> Incoming:
        """Make the request of it that is sent at `now`, with `fresh` as its id."""
        moment = dt.datetime.fromtimestamp(int(now), dt.UTC).isoformat().replace("+00:00", "Z")
        values = {"{uuid}": fresh, "{now}": moment, "{unix}": str(int(now))}
        headers, body = dict(self.headers), self.body
        for name, value in values.items():
            headers = {header: text.replace(name, value) for header, text in headers.items()}
            body = body.replace(name.encode(), value.encode())
        return Incoming(headers, body, now=now)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of sender proves itself and names what it sends.

    `schemes` are the proofs that it may use: the first that applies to a request must verify, there is no falling back.
    Without any, or with `is_optional` while nothing is configured, the token in the URL is the proof. `takes` names the
    fields of `source_config` that are read besides those of the schemes. `read` and `split` get verified requests only,
    and must not raise whatever the bytes are. `greet` answers requests other than POST, such as a challenge, or
    returns one that is to be taken as a delivery; None is a 405. `check` looks at a configuration before it is saved,
    and raises Invalid that points at what could never work. `setup` says what a user does at the sender's side, and
    `dedupe` and `handshakes` what `read` and `greet` do. `answer` is what it wants to hear instead of our usual answer
    when a delivery was taken, unless it says that it accepts `application/json`.
    """

    name: str
    title: str
    schemes: tuple[Scheme, ...] = ()
    is_optional: bool = False
    takes: tuple[str, ...] = ()
    read: Callable[[Incoming], Facts]
    split: Callable[[Incoming], Iterable[Item]] | None = None
    greet: Callable[[Incoming, SourceConfig], Reply | Incoming | None] | None = None
    check: Callable[[SourceConfig], None] | None = None
    setup: str = ""
    dedupe: str = ""
    handshakes: str = ""
    answer: Reply | None = None
    samples: Mapping[str, Sample] = {}

    def scheme(self, incoming: Incoming, config: SourceConfig) -> Scheme | None:
        """Choose the scheme that has to verify; raises BadSignature when the request carries no proof."""
        configured = self._configured(config)
        for scheme in configured:
            if scheme.applies(incoming):
                return scheme
        if configured:
            return configured[0]
        if self.schemes and not self.is_optional:
            raise BadSignature(f"No secret of {self.title} is configured, so nothing can be verified.")
        return None

    def wants(self, incoming: Incoming, config: SourceConfig) -> Sequence[str]:
        """Name the URLs that must be fetched before `verify`; none for a request that it will refuse anyhow."""
        try:
            scheme = self.scheme(incoming, config)
            return scheme.wants(incoming, config) if scheme else ()
        except BadSignature:
            return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Check the proof over the raw bytes, before anything is parsed; raises BadSignature and nothing else."""
        if scheme := self.scheme(incoming, config):
            scheme.verify(incoming, config)

    def facts(self, incoming: Incoming, config: SourceConfig) -> Facts:
        """Read a verified request; where the configuration names headers of its event type and its id, these count."""
        facts, named = self.read(incoming), config.signature
        event_type, delivery_id = facts.event_type, facts.delivery_id
        if named is not None:
            event_type = incoming.headers.get((named.event_type_header or "").lower()) or event_type
            own_id = incoming.headers.get((named.id_header or "").lower())
            delivery_id = f"{self.name}:{own_id}" if own_id else delivery_id
        short = event_type and event_type[:LONGEST_EVENT_TYPE]
        return msgspec.structs.replace(facts, event_type=short, delivery_id=delivery_id)

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Make of an unsigned request what the sender would have sent; raises Invalid where nobody else can."""
        refused = None
        for scheme in self._configured(config):
            try:
                return scheme.sign(incoming, config)
            except Invalid as error:
                refused = error
        if refused or (self.schemes and not self.is_optional):
            raise refused or Invalid(f"{self.title} signs what it sends: a secret is needed to do the same.")
        return incoming

    def _configured(self, config: SourceConfig) -> list[Scheme]:
        return [scheme for scheme in self.schemes if all(getattr(config, name) for name in scheme.needs)]


def find(name: str) -> Source | None:
    """Find one source without importing the others; None when there is none of this name."""
    if name not in {entry.name for entry in pkgutil.iter_modules(__path__)}:
        return None
    source: Source = importlib.import_module(f"{__name__}.{name}").source
    return source


@cache
def discover() -> Mapping[str, Source]:
    """Find all sources by name."""
    modules = [importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return {module.source.name: module.source for module in modules}
