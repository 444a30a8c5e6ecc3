"""RSA signatures, PKCS #1 v1.5, by keys that were fetched: of certificates or out of a key set.

`cryptography` is imported when the first such signature comes: it takes memory that most gateways never need.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.schemes import base64url
from schemas.errors import BadSignature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

SMALLEST_KEY = 2048  # bits
LARGEST_KEY = 8192


class CertifiedKey(msgspec.Struct, frozen=True):
    """The key of a certificate, and when that is valid, in seconds since 1970."""

    key: "RSAPublicKey"
    not_before: float
    not_after: float


@lru_cache(maxsize=64)
def of_certificate(pem: bytes) -> CertifiedKey:
    """Read the key of an X.509 certificate; raises BadSignature when it is none, or its key is no good RSA key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = _checked(certificate.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise BadSignature("The certificate that signed this is not an X.509 certificate of an RSA key.") from None
    return CertifiedKey(key, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


@lru_cache(maxsize=64)
def of_key_set(document: bytes) -> Mapping[str, "RSAPublicKey"]:
    """Read the RSA keys for signatures out of a JWKS (RFC 7517), by their ids; what is none of these is left out.

    Raises BadSignature when it is no key set at all.
    """
    try:
        entries = msgspec.json.decode(document, type=_KeySet).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadSignature("The key set that was fetched to verify this is not a JWKS.") from None
    return {entry.kid: key for entry in entries if entry.is_for_signatures and (key := entry.public_key())}


def verify(key: "RSAPublicKey", signature: bytes, message: bytes, *, algorithm: Literal["sha1", "sha256"]) -> bool:
    """Say whether `signature` is this key's over `message`."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()  # noqa: S303 (SNS's SignatureVersion 1)
    try:
        key.verify(signature, message, padding.PKCS1v15(), digest)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


class _Key(msgspec.Struct):
    kty: str = ""
    kid: str = ""
    use: str = "sig"
    alg: str = "RS256"
    n: str = ""
    e: str = ""

    @property
    def is_for_signatures(self) -> bool:
        return (self.kty, self.use, self.alg) == ("RSA", "sig", "RS256") and bool(self.kid)

    def public_key(self) -> "RSAPublicKey | None":
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import rsa

        try:
            return _checked(rsa.RSAPublicNumbers(_number(self.e), _number(self.n)).public_key())
        except (ValueError, UnsupportedAlgorithm):
            return None


class _KeySet(msgspec.Struct):
    keys: list[_Key]


def _checked(key: object) -> "RSAPublicKey":
    """Let only RSA keys of a sane size pass: small ones can be broken, huge ones take long; raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(key, RSAPublicKey) or not SMALLEST_KEY <= key.key_size <= LARGEST_KEY:
        raise ValueError("no RSA key of a sane size")
    return key


def _number(text: str) -> int:
    return int.from_bytes(base64url.decode(text), "big")
