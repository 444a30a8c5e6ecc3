"""Signatures of what we send, as the Standard Webhooks specification 1.0 says, and the keys behind them.

Each of PENSTOCK_SECRET_KEYS gives one signing key; all of them sign, so that a receiver can change over without a gap.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from schemas.errors import FieldError, Invalid

_PURPOSE = b"penstock.callbacks"
_PREFIX = "whsec_"


def signing_keys(secret_keys: str) -> list[bytes]:
    """Derive the signing keys from the setting, the newest first; none when it is empty."""
    found = filter(None, (key.strip() for key in secret_keys.split(",")))
    return [hmac.digest(key.encode(), _PURPOSE, hashlib.sha256) for key in found][::-1]


def shown_secret(key: bytes) -> str:
    """Write a signing key as receivers take it: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(key).decode()


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Give the value of the header `webhook-signature`: one `v1` signature for each key."""
    message = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode() for key in keys)
    return " ".join(f"v1,{signature}" for signature in signatures)


def require_keys(keys: Sequence[bytes], pointer: str) -> None:
    """Raise Invalid that points at the field `pointer` when there is nothing to sign callbacks with."""
    if not keys:
        message = (
            "Callbacks are signed: set PENSTOCK_SECRET_KEYS, the same for every gateway and runner, and start again."
        )
        raise Invalid(message, errors=(FieldError(pointer, message),))
