"""Twilio's own way: the HMAC of the URL it called, and of the form's fields in the order of their names."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec

from gateway.incoming import Incoming
from gateway.schemes.signed import with_headers, with_query
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig

_HEADER, _SETTINGS = "X-Twilio-Signature", "X-Twilio-Webhooks-Signature-Settings"
_ALGORITHMS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_DIGEST = "bodySHA256"
_FORM = "application/x-www-form-urlencoded"
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]]*\]|[^/?#:]*)(:[0-9]*)?(?P<rest>.*)", re.DOTALL | re.IGNORECASE
)
_PORTS = {"http": 80, "https": 443}


class Twilio(msgspec.Struct, frozen=True):
    """X-Twilio-Signature, as twilio.com/docs/usage/webhooks/webhooks-security and its Python library say.

    The URL may have been signed with the default port or without. Any other body than a form is signed by its SHA-256
    in the query.
    """

    needs = ("secrets",)
    takes = ()

    @property
    def proof(self) -> str:
        """Say it in words, for the table of sources."""
        return f"HMAC-SHA1 or SHA256 of the public URL and the form's fields, base64, in `{_HEADER}`"

    def applies(self, incoming: Incoming) -> bool:
        return bool(incoming.headers.get(_HEADER.lower()))

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Compare with the code that each live secret gives for each way to write the URL; raises BadSignature."""
        given = incoming.headers.get(_HEADER.lower(), "").strip().encode("utf-8", "replace")
        if not given:
            raise BadSignature(f"The header {_HEADER} is missing.")
        algorithm = _algorithm(incoming.headers.get(_SETTINGS.lower(), ""))
        fields = _signed_fields(incoming)
        texts = [url.encode("utf-8", "replace") + fields for url in _spellings(incoming.url)]
        codes = [_code(secret, text, algorithm) for secret in config.secrets for text in texts]
        matches = [hmac.compare_digest(given, code) for code in codes]
        if not any(matches):
            raise BadSignature(
                f"The signature in {_HEADER} does not match what came, or the URL that was called does not begin with "
                "PENSTOCK_PUBLIC_URL."
            )

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Sign with the first secret; a body that is no form gets its hash into the query."""
        if incoming.body and incoming.media_type != _FORM:
            incoming = with_query(incoming, _DIGEST, hashlib.sha256(incoming.body).hexdigest())
        try:
            algorithm = _algorithm(incoming.headers.get(_SETTINGS.lower(), ""))
        except BadSignature as error:
            raise Invalid(error.message) from None
        text = incoming.url.encode() + _signed_fields(incoming)
        return with_headers(incoming, {_HEADER.lower(): _code(config.secrets[0], text, algorithm).decode()})


def _algorithm(settings: str) -> str:
    """Read `key=...,algorithm=HMAC_SHA256`; without it SHA-1 is meant."""
    parts = (part.partition("=") for part in settings.split(","))
    named = next((value.strip() for name, _, value in parts if name.strip() == "algorithm" and value.strip()), "")
    algorithm = _ALGORITHMS.get(named.upper() or "HMAC_SHA1")
    if algorithm is None:
        raise BadSignature(f"The header {_SETTINGS} names an algorithm that is none of {', '.join(_ALGORITHMS)}.")
    return algorithm


def _signed_fields(incoming: Incoming) -> bytes:
    """Write what is signed of the body behind the URL; raises BadSignature when a body is not covered."""
    if incoming.media_type == _FORM:
        fields = parse_qsl(incoming.body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")
        return "".join(name + value for name, value in sorted(set(fields))).encode("utf-8", "replace")
    if incoming.body:
        query = dict(parse_qsl(incoming.url.partition("?")[2]))
        expected = query.get(_DIGEST, "").lower().encode("utf-8", "replace")
        if not hmac.compare_digest(expected, hashlib.sha256(incoming.body).hexdigest().encode()):
            raise BadSignature(f"The SHA-256 of the body is not {_DIGEST} in the URL.")
    return b""


def _spellings(url: str) -> list[str]:
    found = _URL.fullmatch(url)
    if not found:
        return [url]
    scheme, host, rest = found["scheme"], found["host"], found["rest"]
    without, default = f"{scheme}://{host}{rest}", f"{scheme}://{host}:{_PORTS[scheme.lower()]}{rest}"
    return list(dict.fromkeys((url, without, default)))


def _code(secret: str, text: bytes, algorithm: str) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), text, algorithm))
