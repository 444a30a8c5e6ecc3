"""HMACs over the delivered bytes, or over a text in which they stand."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.incoming import Incoming
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig


class Hmac(msgspec.Struct, frozen=True, kw_only=True):
    """`<prefix><hex>` in a header: the HMAC of the raw body under any of the live secrets."""

    header: str
    prefix: str = ""
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"

    needs = ("secrets",)
    takes = ()

    def applies(self, incoming: Incoming) -> bool:
        return bool(incoming.headers.get(self.header.lower()))

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Compare with the code that each live secret gives; raises BadSignature."""
        presented = incoming.headers.get(self.header.lower())
        if not presented:
            raise BadSignature(f"The header {self.header} is missing.")
        if not presented.startswith(self.prefix):
            raise BadSignature(f"The header {self.header} does not begin with {self.prefix!r}.")
        given = presented[len(self.prefix) :].strip().lower().encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, self._code(secret, incoming.body)) for secret in config.secrets]
        if not any(matches):
            raise BadSignature(f"The signature in {self.header} does not match the delivered bytes.")

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        signature = self.prefix + self._code(config.secrets[0], incoming.body).decode()
        return msgspec.structs.replace(incoming, headers={**incoming.headers, self.header.lower(): signature})

    def _code(self, secret: str, message: bytes) -> bytes:
        return hmac.digest(secret.encode(), message, getattr(hashlib, self.algorithm)).hex().encode()
