"""Amazon EventBridge, through an API destination.

docs.aws.amazon.com, "API destinations": an answer within 5 s counts, anything but a 2xx is repeated for 24 hours. An
event of S3 comes as one object, its key as it is.
"""

from gateway import delivery_ids
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    delivery_id = delivery_ids.named("eventbridge", incoming.at("id"))
    return Facts(event_type=incoming.at("detail-type"), delivery_id=delivery_id)


source = Source(
    name="eventbridge",
    title="Amazon EventBridge",
    schemes=(SharedSecret(header="X-Api-Key"), SharedSecret(header="Authorization")),
    is_optional=True,
    read=_read,
    setup=(
        "Create a connection with authorization type API key, `X-Api-Key` as its name and a secret of the schedule as"
        " its value (Basic, any user name and the secret as password, works too), then an API destination with the"
        " URL of a token and method POST, and a rule that has it as target."
    ),
    dedupe="`id`",
    samples={
        "object_created": Sample(
            headers={"content-type": "application/json; charset=utf-8"},
            body=(
                b'{"version":"0","id":"{uuid}","detail-type":"Object Created","source":"aws.s3","account":'
                b'"123456789012","time":"2026-01-02T03:04:05Z","region":"eu-central-1","resources":'
                b'["arn:aws:s3:::incoming"],"detail":{"version":"0","bucket":{"name":"incoming"},"object":'
                b'{"key":"2026/red flower.csv","size":1024},"reason":"PutObject"}}'
            ),
        )
    },
)
