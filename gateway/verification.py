"""The primitives by which senders prove who they are. Bytes are compared in constant time, and nothing else escapes.

Whatever is wrong with what was presented (missing, not ASCII, not hex, too long) is one BadSignature.
"""

import hashlib
import hmac
from collections.abc import Sequence

from schemas.errors import BadSignature


def check_hmac_sha256(
    presented: str | None, message: bytes, *, secrets: Sequence[str], header: str, prefix: str = ""
) -> None:
    """Check `<prefix><hex>` against the HMAC-SHA256 of `message` under any of the live secrets.

    Raises BadSignature that names the header, never the expected value.
    """
    if not presented:
        raise BadSignature(f"The header {header} is missing.")
    if not presented.startswith(prefix):
        raise BadSignature(f"The header {header} does not begin with {prefix!r}.")
    given = presented[len(prefix) :].strip().lower().encode("utf-8", "replace")
    matches = [hmac.compare_digest(given, _hex_hmac(secret, message)) for secret in secrets]
    if not any(matches):
        raise BadSignature(f"The signature in {header} does not match the delivered bytes.")


def _hex_hmac(secret: str, message: bytes) -> bytes:
    return hmac.digest(secret.encode(), message, hashlib.sha256).hex().encode()
