"""Making and recognising secrets: schedule tokens, API keys, and signed trigger links.

A token is `pst_` + 43 characters of base62 (256 bits) + 6 of a CRC-32, so that secret scanners know it
(`pst_[0-9A-Za-z]{49}`) and a mistyped one is refused without asking the database. Only SHA-256 hashes are stored: with
256 random bits there is nothing to brute-force (OWASP ASVS 5.0, 6.5.2), and a look-up by hash leaks no timing.

A token that was imported from another product is 32 hexadecimal digits (Mage: a random UUID, 122 bits), or 48 after
`whk_` (Brokoli: 192 random bits).
"""

import hashlib
import re
import secrets
import uuid
import zlib
from collections.abc import Sequence

import itsdangerous

from schemas.notify import MASK

TOKEN_PREFIX = "pst_"  # noqa: S105 - a prefix
KEY_PREFIX = "psk_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 43
_CHECK_LENGTH = 6
_SHAPE = re.compile(rf"[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECK_LENGTH}}}", re.ASCII)
_FOREIGN_SHAPE = re.compile(r"[0-9a-f]{32}|whk_[0-9a-f]{48}", re.ASCII)
_FOREIGN_WITHIN = re.compile(rf"(?<![0-9A-Za-z])(?:{_FOREIGN_SHAPE.pattern})(?![0-9A-Za-z])")
_HINT_LENGTH = 4


def new_token() -> str:
    """Make a schedule token."""
    return _new_secret(TOKEN_PREFIX)


def new_key() -> str:
    """Make an API key; it has the form of a token, with its own prefix."""
    return _new_secret(KEY_PREFIX)


def digest(secret: str) -> bytes:
    """Give the SHA-256 that stands for a secret in the database."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def hint(secret: str) -> str:
    """Give the last characters, by which a person recognises a secret."""
    return secret[-_HINT_LENGTH:]


def could_be_token(text: str) -> bool:
    """Say whether this is a token at all, ours or one that may have been imported; what fails here needs no look-up."""
    if is_foreign(text):
        return True
    if not text.startswith(TOKEN_PREFIX) or not _SHAPE.fullmatch(body := text[len(TOKEN_PREFIX) :]):
        return False
    return body[_RANDOM_LENGTH:] == _checksum(TOKEN_PREFIX + body[:_RANDOM_LENGTH])


def is_foreign(text: str) -> bool:
    """Say whether this has the form of another product's token."""
    return _FOREIGN_SHAPE.fullmatch(text) is not None


def mask_foreign(text: str) -> str:
    """Mask what has the form of another product's token in a text that repeats what a caller said."""
    return _FOREIGN_WITHIN.sub(MASK, text)


def _new_secret(prefix: str) -> str:
    body = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return body + _checksum(body)


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


class LinkSigner:
    """Signs and reads trigger links: `<id of the link in hex>.<timestamp>.<signature>`, the last two base64url.

    Keys go from oldest to newest: the last one signs, all verify. The link's row says how often it may be used; the
    signed text itself is never a key for anything, since itsdangerous accepts several spellings of one signature.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._signer = itsdangerous.TimestampSigner(
            list(keys), salt="penstock.link", key_derivation="hmac", digest_method=hashlib.sha256
        )

    def sign(self, link_id: uuid.UUID) -> str:
        """Sign the id of a link."""
        return self._signer.sign(link_id.hex).decode()

    def read(self, text: str) -> uuid.UUID | None:
        """Read the id out of a signed link; None for anything that we did not sign."""
        try:
            return uuid.UUID(hex=self._signer.unsign(text).decode())
        except (itsdangerous.BadData, ValueError):
            return None
