"""Docker Hub's repository webhooks.

Docker's documentation, "Docker Hub webhooks": they are neither signed nor named, so the token in the URL is the proof
and the bytes are the delivery's id.
"""

from gateway import delivery_ids, members
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    event_type = "push" if members.find(incoming.document, "push_data") is not None else None
    return Facts(event_type=event_type, delivery_id=delivery_ids.of_body("docker_hub", incoming.body))


source = Source(
    name="docker_hub",
    title="Docker Hub",
    read=_read,
    setup="Repository > Webhooks: any name, and the URL of a token as webhook URL.",
    dedupe="the hash of the body",
    samples={
        "push": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"callback_url":"https://registry.hub.docker.example/u/octo/app/hook/{uuid}/","push_data":{"pushed_at":'
                b'1767323045,"pusher":"octo","tag":"latest"},"repository":{"name":"app","namespace":"octo","repo_name":'
                b'"octo/app","repo_url":"https://hub.docker.example/r/octo/app","status":"Active"}}'
            ),
        )
    },
)
