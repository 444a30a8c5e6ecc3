"""How a sender proves who it is: a few primitives, each written once, which sources name as data.

A scheme is a frozen Struct. Whatever is wrong with what was presented (missing, not ASCII, not base64, too old, too
long) is one BadSignature that names the header and never the expected value; nothing else ever escapes. Bytes are
compared in constant time.
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.incoming import Incoming
from schemas.schedules import SourceConfig


class Scheme(Protocol):
    """One way of proof.

    `needs` names the fields of `source_config` without which it cannot work; `takes` those that it reads besides.
    """

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def takes(self) -> tuple[str, ...]: ...

    def applies(self, incoming: Incoming) -> bool:
        """Say whether the request carries this kind of proof at all, right or wrong."""

    def wants(self, incoming: Incoming, config: SourceConfig) -> Sequence[str]:
        """Name the URLs that must be fetched before `verify`, only of hosts that are allowed; raises BadSignature."""

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Check the proof over the raw bytes; raises BadSignature."""

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Make of an unsigned request what the sender would have sent at `incoming.now`, with the first secret.

        Raises Invalid where only the sender can sign (it alone has the private key).
        """
