"""A secret that the sender only repeats: in a header, as a Bearer, as a Basic password, or in the query."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterator, Sequence

import msgspec

from gateway.incoming import Incoming
from gateway.schemes.signed import with_headers, with_query
from schemas.errors import BadSignature
from schemas.schedules import SourceConfig


class SharedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that is compared, nothing else; `header` and `query` name where it may stand.

    In `Authorization` it may come as a Bearer, as the password of Basic (any user name), or bare.
    """

    header: str = ""
    query: str = ""

    needs = ("secrets",)
    takes = ()

    def applies(self, incoming: Incoming) -> bool:
        return any(True for _ in self._presented(incoming))

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Compare with each live secret; raises BadSignature."""
        presented = [value.encode("utf-8", "replace") for value in self._presented(incoming)]
        if not presented:
            raise BadSignature(f"The {self._place} is missing.")
        secrets = [secret.encode() for secret in config.secrets]
        matches = [hmac.compare_digest(given, secret) for given in presented for secret in secrets]
        if not any(matches):
            raise BadSignature(f"The secret in the {self._place} is not one of this schedule's.")

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Put the first secret where the sender puts it."""
        secret = config.secrets[0]
        if self.query:
            return with_query(incoming, self.query, secret)
        value = f"Bearer {secret}" if self.header.lower() == "authorization" else secret
        return with_headers(incoming, {self.header.lower(): value})

    @property
    def proof(self) -> str:
        """Say it in words, for the table of sources."""
        return "a secret in the " + re.sub(r"(header|parameter) (\S+)", r"\1 `\2`", self._place)

    @property
    def _place(self) -> str:
        places = (f"header {self.header}" if self.header else "", f"query parameter {self.query}" if self.query else "")
        return " or the ".join(filter(None, places))

    def _presented(self, incoming: Incoming) -> Iterator[str]:
        if self.query and (value := incoming.query.get(self.query)):
            yield value
        value = incoming.headers.get(self.header.lower(), "") if self.header else ""
        if not value:
            return
        yield value
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "bearer":
            yield rest.strip()
        elif scheme.lower() == "basic":
            yield _password(rest.strip())


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials.encode(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError):
        return ""
