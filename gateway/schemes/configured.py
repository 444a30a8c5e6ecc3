"""An HMAC as the configuration of a schedule describes it."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from gateway.incoming import Incoming
from gateway.schemes.hmacs import Hmac, check_keys
from gateway.schemes.signed import PLACEHOLDER, SignedText
from schemas.errors import BadSignature, FieldError, Invalid
from schemas.schedules import SignatureConfig, SourceConfig

_BRACES = re.compile(r"\{[^{}]*\}")


class ConfiguredHmac(msgspec.Struct, frozen=True):
    """What `source_config.signature` says, with the live secrets as keys.

    Several signatures may stand in the header, apart by commas, or by spaces when their prefix has a comma in it.
    """

    needs = ("secrets", "signature")
    takes = ()

    @property
    def proof(self) -> str:
        """Say it in words, for the table of sources."""
        return "an HMAC as `signature` describes it"

    def applies(self, _incoming: Incoming) -> bool:
        return True

    def wants(self, _incoming: Incoming, _config: SourceConfig) -> Sequence[str]:
        return ()

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Verify as any HMAC; raises BadSignature."""
        if config.signature is None:
            raise BadSignature("This schedule does not say how its sender signs.")
        _built(config.signature).verify(incoming, config)

    def sign(self, incoming: Incoming, config: SourceConfig) -> Incoming:
        """Sign as any HMAC; raises Invalid."""
        if config.signature is None:
            raise Invalid("source_config.signature must say how to sign.")
        return _built(config.signature).sign(incoming, config)


def check_signature(config: SourceConfig) -> None:
    """Raise Invalid that points at what cannot work, or would prove nothing."""
    if signature := config.signature:
        if errors := tuple(_wrong(signature)):
            raise Invalid(errors=errors)
        check_keys(config, signature.key_encoding)


def _built(signature: SignatureConfig) -> Hmac:
    return Hmac(
        header=signature.header,
        prefix=signature.prefix,
        separator="" if not signature.prefix else " " if "," in signature.prefix else ",",
        signed=SignedText(
            template=signature.template,
            id_header=signature.id_header or "",
            timestamp_header=signature.timestamp_header or "",
            tolerance_s=signature.tolerance_s,
        ),
        algorithm=signature.algorithm,
        encoding=signature.encoding,
        key=signature.key_encoding,
    )


def _wrong(signature: SignatureConfig) -> Iterator[FieldError]:
    at, template = "/source_config/signature", signature.template
    names = PLACEHOLDER.findall(template)
    if unknown := set(_BRACES.findall(template)) - {f"{{{name}}}" for name in names}:
        yield FieldError(f"{at}/template", f"there is no {sorted(unknown)[0]}: use {{body}}, {{timestamp}} and {{id}}")
    if len(names) != len(set(names)):
        yield FieldError(f"{at}/template", "names one thing twice")
    if "id" in names and not signature.id_header:
        yield FieldError(f"{at}/id_header", "is missing: the template has {id}")
    if "timestamp" in names and not signature.timestamp_header:
        yield FieldError(f"{at}/timestamp_header", "is missing: the template has {timestamp}")
    if "timestamp" not in names and signature.timestamp_header:
        yield FieldError(f"{at}/template", "has no {timestamp}: a time that is not signed proves nothing")
