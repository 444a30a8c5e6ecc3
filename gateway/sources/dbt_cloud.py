"""dbt Cloud webhooks: a bare hex HMAC of the body in Authorization, without a word before it."""

from gateway import delivery_ids
from gateway.schemes.hmacs import Hmac
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    return Facts(
        event_type=incoming.at("eventType"), delivery_id=delivery_ids.named("dbt_cloud", incoming.at("eventId"))
    )


source = Source(
    name="dbt_cloud",
    title="dbt Cloud",
    schemes=(Hmac(header="Authorization"),),
    read=_read,
    setup=(
        "Account settings > Webhooks > Create webhook: the URL of a token (the token in the path: dbt signs in "
        "Authorization); then give the schedule the secret token that dbt shows."
    ),
    dedupe="`eventId`",
    samples={
        "completed": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"accountId": 1, "webhookId": "wsu_1", "eventId": "wev_{uuid}", "timestamp": "{now}", '
                b'"eventType": "job.run.completed", "webhookName": "nightly", '
                b'"data": {"jobId": "123", "jobName": "Daily", "runId": "12345", "runStatus": "Success"}}'
            ),
        )
    },
)
