"""MLflow's webhooks: the algorithm of Standard Webhooks with other headers, and the secret's text as the key."""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.schemes.signed import SignedText
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    entity, action = incoming.at("entity"), incoming.at("action")
    return Facts(
        event_type=f"{entity}.{action}" if entity and action else None,
        delivery_id=delivery_ids.named("mlflow", incoming.headers.get("x-mlflow-delivery-id")),
    )


source = Source(
    name="mlflow",
    title="MLflow",
    schemes=(
        Hmac(
            header="X-MLflow-Signature",
            prefix="v1,",
            signed=SignedText(
                template="{id}.{timestamp}.{body}",
                id_header="X-MLflow-Delivery-Id",
                timestamp_header="X-MLflow-Timestamp",
            ),
            encoding="base64",
        ),
    ),
    read=_read,
    setup="client.create_webhook(name, url of a token, events, secret=...), with the secret of the schedule.",
    dedupe="`X-MLflow-Delivery-Id`",
    samples={
        "registered": Sample(
            headers={"content-type": "application/json", "x-mlflow-delivery-id": "{uuid}"},
            body=(
                b'{"entity": "model_version", "action": "created", "timestamp": "{now}", '
                b'"data": {"name": "churn", "version": "3", "source": "models:/m-1", "run_id": null}}'
            ),
        )
    },
)
