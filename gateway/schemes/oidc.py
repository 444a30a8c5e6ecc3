"""OpenID Connect tokens: a JWT in `Authorization: Bearer`, signed RS256 with a key out of the issuer's key set.

cloud.google.com, "Authenticate push subscriptions"; RFC 7519 and 8725: the algorithm is ours to say, never the token's.
The audience alone would prove nothing, since anybody can have Google sign any audience: the e-mail address counts.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from gateway.incoming import Incoming
from gateway.schemes import base64url, rsa_keys
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig

ALGORITHM = "RS256"
LEEWAY_S = 60
LONGEST_TOKEN = 8192
_KEY_ID = re.compile(r"[A-Za-z0-9_.=-]{1,200}\Z")
Part = TypeVar("Part")


class OidcToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token of one of `issuers`, for our audience, about our e-mail address."""

    issuers: tuple[str, ...]
    jwks_url: str

    needs = ("audience", "email")
    takes = ("jwks_url",)

    @property
    def proof(self) -> str:
        return "an OpenID Connect token (RS256) as Bearer, for `audience` and about `email`"

    def applies(self, incoming: Incoming) -> bool:
        return bool(incoming.headers.get("authorization"))

    def wants(self, incoming: Incoming, config: SourceConfig) -> Sequence[str]:
        """Name the key set, and behind `#` the key that must be in it; raises BadSignature."""
        return (f"{self._jwks_url(config)}#{_Jwt.read(incoming).header.kid}",)

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Check the signature, then what is claimed; raises BadSignature."""
        jwt = _Jwt.read(incoming)
        document = incoming.documents.get(self._jwks_url(config))
        if document is None:
            raise BadSignature("The issuer's key set was not fetched.")
        key = rsa_keys.of_key_set(document).get(jwt.header.kid)
        if key is None:
            raise BadSignature("The token is signed with a key that its issuer does not have.")
        if not rsa_keys.verify(key, jwt.signature, jwt.signed, algorithm="sha256"):
            raise BadSignature("The signature of the token does not match it.")
        self._check(jwt.claims, config, incoming.now)

    def sign(self, _incoming: Incoming, _config: SourceConfig) -> Incoming:
        raise Invalid("Only the issuer of the tokens can sign this: let the sender send.")

    def _jwks_url(self, config: SourceConfig) -> str:
        return config.jwks_url.partition("#")[0] or self.jwks_url

    def _check(self, claims: "_Claims", config: SourceConfig, now: float) -> None:
        if claims.iss not in self.issuers:
            raise BadSignature("The issuer (iss) of the token is not one of this source's.")
        if config.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise BadSignature("The audience (aud) of the token is not this schedule's.")
        if claims.email != config.email or claims.email_verified is not True:
            raise BadSignature("The e-mail address of the token is not this schedule's, or was not verified.")
        if now > claims.exp + LEEWAY_S:
            raise BadSignature("The token has expired.")
        if max(claims.iat, claims.nbf or claims.iat) > now + LEEWAY_S:
            raise BadSignature("The token is of the future.")


class _Header(msgspec.Struct):
    alg: str
    kid: str
    crit: Any = None


class _Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    exp: float
    iat: float
    email: str
    email_verified: bool
    nbf: float | None = None


class _Jwt(msgspec.Struct, frozen=True):
    header: _Header
    claims: _Claims
    signed: bytes
    signature: bytes

    @classmethod
    def read(cls, incoming: Incoming) -> "_Jwt":
        """Take the token apart; raises BadSignature, also when it is signed in another way than RS256."""
        kind, _, token = incoming.headers.get("authorization", "").partition(" ")
        parts = token.strip().split(".")
        if kind.lower() != "bearer" or len(parts) != 3 or len(token) > LONGEST_TOKEN:
            raise BadSignature("There is no JWT in the header Authorization, after the word Bearer.")
        try:
            header, claims = (base64url.decode(part) for part in parts[:2])
            signature = base64url.decode(parts[2])
        except ValueError:
            raise BadSignature("The token in the header Authorization is not a JWT.") from None
        read = cls(_decode(header, _Header), _decode(claims, _Claims), ".".join(parts[:2]).encode(), signature)
        if read.header.alg != ALGORITHM or read.header.crit is not None or not _KEY_ID.match(read.header.kid):
            raise BadSignature(f"The token is not signed with {ALGORITHM} and a key that has an id.")
        return read


def _decode(part: bytes, type_: type[Part]) -> Part:
    try:
        return msgspec.json.decode(part, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadSignature("The token in the header Authorization is not a JWT.") from None
