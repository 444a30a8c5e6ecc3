"""HMACs over the delivered bytes, or over a text in which they stand."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.incoming import Incoming
from gateway.schemes.checks import check_secrets
from gateway.schemes.signed import Place, SignedText
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig

KeyForm = Literal["text", "base64", "hex", "whsec"]
_WHSEC = "whsec_"
_KEY_FORMS = {
    "text": "text",
    "base64": "base64, with or without whsec_ before it",
    "hex": "hexadecimal digits",
    "whsec": "whsec_ and base64",
}


class Hmac(msgspec.Struct, frozen=True, kw_only=True):
    """The HMAC of `signed`, under any of the live secrets, in a header.

    A secret is the key as `key` says: its text, or what that is the base64 (Standard Webhooks) or hex of; with `whsec`
    only those secrets are keys that have this prefix.
    """

    header: str
    prefix: str = ""
    separator: str = ""
    signed: SignedText = SignedText()
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    key: KeyForm = "text"

    needs = ("secrets",)
    takes = ()

    @property
    def proof(self) -> str:
        """Say it in words, for the table of sources."""
        return f"HMAC-{self.algorithm.upper()} of {self.signed.words}, {self.encoding}, in `{self.header}`"

    def applies(self, incoming: Incoming) -> bool:
        return bool(incoming.headers.get(self.header.lower()))

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Compare with the code that each live secret gives; raises BadSignature."""
        given = [self._canonical(signature) for signature in self._place.read(incoming)]
        text = self.signed.read(incoming, self._place)
        keys = [key for secret in config.secrets if (key := read_key(secret, self.key)) is not None]
        if not keys:
            raise BadSignature(f"No secret of this schedule is a key for {self.header}: {_KEY_FORMS[self.key]}.")
        codes = [self._code(key, text) for key in keys]
        matches = [hmac.compare_digest(signature, code) for signature in given for code in codes]
        if not any(matches):
            raise BadSignature(f"The signature in {self.header} does not match the delivered bytes.")
        self.signed.check_body_time(incoming)

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Sign with the first secret that is a key; raises Invalid when there is none."""
        keys = (read_key(secret, self.key) for secret in config.secrets)
        key = next((key for key in keys if key is not None), None)
        if key is None:
            raise Invalid(f"No secret that was given is a key for {self.header}: {_KEY_FORMS[self.key]}.")
        stamped, text, parts = self.signed.stamp(incoming)
        return self._place.write(stamped, self._code(key, text).decode(), *parts)

    @property
    def _place(self) -> Place:
        return Place(header=self.header, prefix=self.prefix, separator=self.separator)

    def _canonical(self, signature: str) -> bytes:
        return (signature.lower() if self.encoding == "hex" else signature).encode("utf-8", "replace")

    def _code(self, key: bytes, text: bytes) -> bytes:
        code = hmac.digest(key, text, self.algorithm)
        return base64.b64encode(code) if self.encoding == "base64" else code.hex().encode()


def read_key(secret: str, form: KeyForm) -> bytes | None:
    """Read a secret as a key; None when it has not the form."""
    if form == "text":
        return secret.encode()
    if form == "whsec" and not secret.startswith(_WHSEC):
        return None
    try:
        if form == "hex":
            return bytes.fromhex(secret) or None
        return decode_base64(secret.removeprefix(_WHSEC)) or None
    except ValueError:
        return None


def decode_base64(text: str) -> bytes:
    """Decode base64 whose padding may be missing; raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def check_keys(config: SourceConfig, form: KeyForm) -> None:
    """Raise Invalid that points at each secret which is no key of this form."""
    message = f"is not what a key looks like here: {_KEY_FORMS[form]}"
    check_secrets(config, lambda secret: read_key(secret, form) is not None, message)
