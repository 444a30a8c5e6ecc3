"""Notifications of a Docker registry (distribution).

distribution.github.io, "Notifications". Its queue is serial: an event that gets a 4xx or a 5xx, or no answer within the
endpoint's timeout (500 ms in its examples), is repeated for ever and holds up all that follow.
"""

from collections.abc import Sequence
from typing import Any

from gateway import delivery_ids, members
from gateway.incoming import text_at
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Item, Sample, Source


def _read(incoming: Incoming) -> Facts:
    events = members.objects(incoming.document, "events")
    return Facts(
        event_type=text_at(events[0], "action") if events else None,
        delivery_id=delivery_ids.of_items("docker_registry", [_id(event) for event in events]),
    )


def _split(incoming: Incoming) -> Sequence[Item]:
    return [
        Item(payload=event, id=_id(event), event_type=text_at(event, "action"))
        for event in members.objects(incoming.document, "events")
    ]


def _id(event: dict[str, Any]) -> str | None:
    return delivery_ids.named("docker_registry", text_at(event, "id"))


source = Source(
    name="docker_registry",
    title="Docker registry",
    schemes=(SharedSecret(header="Authorization"),),
    is_optional=True,
    read=_read,
    split=_split,
    setup=(
        "In the registry's configuration: `notifications: {endpoints: [{name: penstock, url: URL, headers:"
        " {Authorization: [Bearer SECRET]}, timeout: 5s, threshold: 5, backoff: 5s}]}`, the URL being that of a token."
    ),
    dedupe="`id` of the events",
    samples={
        "push": Sample(
            headers={"content-type": "application/vnd.docker.distribution.events.v1+json"},
            body=(
                b'{"events":[{"id":"{uuid}","timestamp":"2026-01-02T03:04:05.678Z","action":"push","target":{"mediaType":'
                b'"application/vnd.docker.distribution.manifest.v2+json","digest":"sha256:fea8895f450959fa676bcc1df0611ea9'
                b'3823a735a01205fd8622846041d0c7cf","size":708,"repository":"octo/app","url":'
                b'"http://registry.example.com/v2/octo/app/manifests/latest","tag":"latest"},"request":{"method":"PUT"},'
                b'"actor":{},"source":{"addr":"registry.example.com:5000"}}]}'
            ),
        )
    },
)
