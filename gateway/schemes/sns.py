"""Amazon SNS: an RSA signature over a text made of the message's members, by a certificate that the message names.

docs.aws.amazon.com, "Verifying the signatures of Amazon SNS messages". The members are those of the JSON once it is
decoded. The certificate may only come from Amazon, or from hosts that the schedule names in their place.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import field

from gateway.incoming import Incoming
from gateway.schemes import rsa_keys
from schemas.errors import BadSignature, Invalid
from schemas.schedules import SourceConfig

RAW_DELIVERY = "x-amz-sns-rawdelivery"
_HOST = re.compile(r"sns\.[a-zA-Z0-9-]{3,}\.amazonaws\.com(\.cn)?\Z")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[a-zA-Z0-9]{32}\.pem\Z")
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_MAY_BE_MISSING = {"Subject"}
_MAY_HAVE_LINES = {"Message"}
_ALGORITHMS: dict[str, Literal["sha1", "sha256"]] = {"1": "sha1", "2": "sha256"}


class Message(msgspec.Struct, rename="pascal"):
    """What SNS sends; a member that this type of message does not have is None."""

    type: str
    message: str
    message_id: str
    timestamp: str
    topic_arn: str
    signature: str
    signature_version: str
    signing_cert_url: str = field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = field(name="SubscribeURL", default=None)
    unsubscribe_url: str | None = field(name="UnsubscribeURL", default=None)


class SnsSignature(msgspec.Struct, frozen=True):
    """The signature in an SNS message; a raw delivery has none, so it is not proved by this."""

    needs = ()
    takes = ("certificate_hosts", "topics")

    @property
    def proof(self) -> str:
        return "the RSA signature in the message (versions 1 and 2), by a certificate of SNS"

    def applies(self, incoming: Incoming) -> bool:
        return RAW_DELIVERY not in incoming.headers

    def wants(self, incoming: Incoming, config: SourceConfig) -> Sequence[str]:
        """Name the certificate; raises BadSignature when it, or another URL of the message, is not Amazon's."""
        return (_judged(incoming, config).signing_cert_url,)

    def verify(self, incoming: Incoming, config: SourceConfig) -> None:
        """Check hosts, topic, certificate and signature; raises BadSignature."""
        message = _judged(incoming, config)
        certificate = incoming.documents.get(message.signing_cert_url)
        if certificate is None:
            raise BadSignature("The certificate at SigningCertURL was not fetched.")
        certified = rsa_keys.of_certificate(certificate)
        if not certified.not_before <= incoming.now <= certified.not_after:
            raise BadSignature("The certificate at SigningCertURL is not valid now.")
        signature, algorithm = _signature(message), _ALGORITHMS[message.signature_version]
        if not rsa_keys.verify(certified.key, signature, canonical(message), algorithm=algorithm):
            raise BadSignature("The Signature does not match the message.")

    def sign(self, _incoming: Incoming, _config: SourceConfig) -> Incoming:
        raise Invalid("Only SNS can sign this: publish to the topic.")


def canonical(message: Message) -> bytes:
    """Write what is signed: the names and values of the type's members in byte order, each on lines of its own.

    Raises BadSignature when the message is of no known type or lacks a member. A line break anywhere but in Message
    would let the same text be cut into other members (and a replay have another MessageId), so there may be none.
    """
    names = _SIGNED.get(message.type)
    if names is None:
        raise BadSignature("The Type of the message is none that SNS sends.")
    members = msgspec.to_builtins(message)
    lines = []
    for name in names:
        value = members[name]
        if value is None and name in _MAY_BE_MISSING:
            continue
        if value is None:
            raise BadSignature(f"The message has no {name}.")
        if "\n" in value and name not in _MAY_HAVE_LINES:
            raise BadSignature(f"There is a line break in {name}.")
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode()


def may_visit(url: str, config: SourceConfig) -> bool:
    """Say whether a URL is one of SNS, or of a host that the schedule names in its place."""
    split = _split(url)
    return split is not None and _is_trusted(split, config)


def _judged(incoming: Incoming, config: SourceConfig) -> Message:
    if RAW_DELIVERY in incoming.headers:
        raise BadSignature("A raw message delivery is not signed: switch it off, or add a secret to this schedule.")
    try:
        message = msgspec.json.decode(incoming.body, type=Message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadSignature("The body is not a signed message of SNS.") from None
    if message.signature_version not in _ALGORITHMS:
        raise BadSignature("The SignatureVersion is neither 1 nor 2.")
    if config.topics and message.topic_arn not in config.topics:
        raise BadSignature("The TopicArn is not one of this schedule's topics.")
    _check_urls(message, config)
    return message


def _check_urls(message: Message, config: SourceConfig) -> None:
    split = _split(message.signing_cert_url)
    if split is None or not _is_trusted(split, config) or not _may_be_certificate(split, config):
        raise BadSignature("The SigningCertURL is not where certificates of SNS are.")
    for name, url in (("SubscribeURL", message.subscribe_url), ("UnsubscribeURL", message.unsubscribe_url)):
        if url is not None and not may_visit(url, config):
            raise BadSignature(f"The {name} does not lead to SNS.")


def _split(url: str) -> SplitResult | None:
    """Take a URL apart, if every reader would do it alike: no user, no white space, no backslash, a port in range."""
    try:
        split = urlsplit(url)
        is_plain = split.port is not None or not split.netloc.endswith(":")
    except ValueError:
        return None
    return split if is_plain and re.fullmatch(r"[!-~]+", url) and not re.search(r"[@\\]", split.netloc) else None


def _is_trusted(split: SplitResult, config: SourceConfig) -> bool:
    if config.certificate_hosts:
        return split.scheme in ("http", "https") and split.netloc.lower() in _lower(config.certificate_hosts)
    return split.scheme == "https" and _HOST.match(split.netloc) is not None


def _may_be_certificate(split: SplitResult, config: SourceConfig) -> bool:
    if split.query or split.fragment:
        return False
    return split.path.endswith(".pem") if config.certificate_hosts else _CERTIFICATE.match(split.path) is not None


def _lower(hosts: Sequence[str]) -> set[str]:
    return {host.lower() for host in hosts}


def _signature(message: Message) -> bytes:
    try:
        return base64.b64decode(message.signature, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature("The Signature is not base64.") from None
