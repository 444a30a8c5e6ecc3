"""Senders that sign with RSA keys, as Amazon and Google do: the keys are made here, the signatures are real."""

import base64
import datetime as dt
import json
import time
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
AUDIENCE = "https://hooks.example.com/orders"
EMAIL = "pusher@example-project.iam.gserviceaccount.com"
YEAR_S = 366 * 86_400
AMAZONS_CERTIFICATE = (
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
)


def rsa_key(size: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def certify(
    key: CertificateIssuerPrivateKeyTypes, *, not_before: float | None = None, not_after: float | None = None
) -> bytes:
    """Issue a certificate to a key, by itself; valid for a year around now unless told otherwise."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = dt.datetime.fromtimestamp(time.time() - YEAR_S if not_before is None else not_before, dt.UTC)
    end = dt.datetime.fromtimestamp(time.time() + YEAR_S if not_after is None else not_after, dt.UTC)
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Amazon:
    """SNS with one topic; its certificate is at `url`/SimpleNotificationService-....pem."""

    def __init__(self, url: str = "https://sns.eu-central-1.amazonaws.com") -> None:
        self.key = rsa_key()
        self.url = url
        self.certificate = certify(self.key)
        self.certificate_path = "/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"

    def message(self, kind: str = "Notification", *, version: str = "2", **members: Any) -> dict[str, Any]:
        """Write and sign a message; `members` replace what would stand in it, None leaves one out."""
        confirms = kind != "Notification"
        message = {
            "Type": kind,
            "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
            "TopicArn": TOPIC,
            "Message": "You have chosen to subscribe to the topic." if confirms else '{"order": 4711}',
            "Timestamp": "2026-01-02T03:04:05.678Z",
            "SignatureVersion": version,
            "SigningCertURL": self.url + self.certificate_path,
        }
        if confirms:
            token = "2336412f37fb687f5d51e6e2425dacbba"
            message["Token"] = token
            message["SubscribeURL"] = f"{self.url}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}"
        else:
            message["UnsubscribeURL"] = f"{self.url}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:b6e5d"
        message = {name: value for name, value in (message | members).items() if value is not None}
        return message | {"Signature": self.signature(message)}

    def signature(self, message: dict[str, Any]) -> str:
        """Sign as "Verifying the signatures of Amazon SNS messages" says, step by step."""
        if message["Type"] == "Notification":
            names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        else:
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(name + "\n" + message[name] + "\n" for name in names if name in message)
        digest = hashes.SHA1() if message["SignatureVersion"] == "1" else hashes.SHA256()
        return base64.b64encode(self.key.sign(text.encode(), padding.PKCS1v15(), digest)).decode()


class Google:
    """An issuer of OpenID Connect tokens, with a key set of one key."""

    def __init__(self, key_id: str = "f1b9c2") -> None:
        self.key = rsa_key()
        self.key_id = key_id

    @property
    def jwks(self) -> bytes:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [public | {"kid": self.key_id, "use": "sig", "alg": "RS256"}]}).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Say what Pub/Sub claims; `changed` replaces, None leaves out."""
        claims = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "113774264463038321964",
            "sub": "113774264463038321964",
            "email": EMAIL,
            "email_verified": True,
            "iat": int(time.time()),
            "exp": int(time.time()) + 3600,
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, **changed: Any) -> str:
        return jwt.encode(self.claims(**changed), self.key, algorithm="RS256", headers={"kid": self.key_id})
