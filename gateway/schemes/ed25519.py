"""Ed25519: the sender signs with a key that only it has, and we hold the public one.

`cryptography` is imported with the first such signature: it costs 8 MB, and few have such a sender.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from gateway.incoming import Incoming
from gateway.schemes.hmacs import decode_base64
from gateway.schemes.signed import Place, SignedText
from schemas.errors import BadSignature, FieldError, Invalid
from schemas.schedules import SourceConfig

_KEY_BYTES = 32
_PUBLIC, _PRIVATE = "whpk_", "whsk_"


class Ed25519(msgspec.Struct, frozen=True, kw_only=True):
    """A signature of `signed` in a header, by the owner of `public_key`.

    Keys are hex, or base64 after `whpk_` (public) and `whsk_` (private), as Standard Webhooks writes them. Several
    public keys, with spaces between, are all live.
    """

    header: str
    prefix: str = ""
    separator: str = ""
    signed: SignedText = SignedText()
    encoding: Literal["hex", "base64"] = "hex"

    needs = ("public_key",)
    takes = ()

    @property
    def proof(self) -> str:
        """Say it in words, for the table of sources."""
        return f"Ed25519 over {self.signed.words}, {self.encoding}, in `{self.header}`"

    def applies(self, incoming: Incoming) -> bool:
        return self._place.is_in(incoming)

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Verify with each public key; raises BadSignature."""
        given = [_decoded(signature, self.encoding) for signature in self._place.read(incoming)]
        text = self.signed.read(incoming, self._place)
        if not any(_is_signed(text, signature, key) for signature in given for key in _public_keys(config)):
            raise BadSignature(f"The signature in {self.header} does not match the delivered bytes.")

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Sign with a private key that stands among the secrets; raises Invalid when there is none."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        seeds = (_read_key(secret, _PRIVATE) for secret in config.secrets)
        seed = next((seed for seed in seeds if seed is not None), None)
        if seed is None:
            raise Invalid("Only who has the private key can sign: give it as the secret, in hex or as whsk_...")
        stamped, text, parts = self.signed.stamp(incoming)
        signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text)
        return self._place.write(stamped, _encoded(signature, self.encoding), *parts)

    @property
    def _place(self) -> Place:
        return Place(header=self.header, prefix=self.prefix, separator=self.separator)


def check_public_key(config: SourceConfig) -> None:
    """Raise Invalid that points at a public key which is none."""
    if any(_read_key(text, _PUBLIC) is None for text in config.public_key.split()):
        message = "is no Ed25519 public key: 64 hexadecimal digits, or whpk_ and base64 of 32 bytes"
        raise Invalid(errors=(FieldError("/source_config/public_key", message),))


def _public_keys(config: SourceConfig) -> Iterator[bytes]:
    return (key for text in config.public_key.split() if (key := _read_key(text, _PUBLIC)) is not None)


def _read_key(text: str, prefix: str) -> bytes | None:
    """Read a key; of a private one with the public one behind it the first half."""
    try:
        key = decode_base64(text.removeprefix(prefix)) if text.startswith(prefix) else bytes.fromhex(text)
    except ValueError:
        return None
    is_pair = prefix == _PRIVATE and len(key) == 2 * _KEY_BYTES
    return key[:_KEY_BYTES] if is_pair or len(key) == _KEY_BYTES else None


def _is_signed(text: bytes, signature: bytes, key: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _decoded(signature: str, encoding: str) -> bytes:
    """Decode a signature; one that cannot be decoded becomes one that matches nothing."""
    try:
        return decode_base64(signature) if encoding == "base64" else bytes.fromhex(signature)
    except ValueError:
        return b""


def _encoded(signature: bytes, encoding: str) -> str:
    return base64.b64encode(signature).decode() if encoding == "base64" else signature.hex()
