"""Base64 for URLs without padding (RFC 7515, section 2), read strictly: one value has one spelling."""

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+\Z")


def decode(text: str) -> bytes:
    """Decode; raises ValueError for anything that an encoder would not have written."""
    if not _ALPHABET.match(text):
        raise ValueError("not base64url")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise ValueError("not the one spelling of these bytes")
    return decoded
