"""Any sender with an HMAC in a header: the schedule's `signature` says how it is made."""

from gateway import delivery_ids
from gateway.schemes.configured import ConfiguredHmac, check_signature
from gateway.sources import Facts, Incoming, Sample, Source


def _read(incoming: Incoming) -> Facts:
    return Facts(delivery_id=delivery_ids.find(incoming.headers, incoming.body))


source = Source(
    name="hmac",
    title="Any system that signs with an HMAC",
    schemes=(ConfiguredHmac(),),
    read=_read,
    check=check_signature,
    setup=(
        "POST to the URL of a token, and say in source_config.signature what the sender does: header, prefix, template "
        "with {body}, {timestamp} and {id}, algorithm, encoding."
    ),
    dedupe="the header `id_header`, or as for `generic`",
    samples={
        "order": Sample(headers={"content-type": "application/json"}, body=b'{"order": "{uuid}", "state": "paid"}')
    },
)
