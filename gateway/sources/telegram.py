"""Telegram bots: a secret that is only repeated, and an update whose one other field says what it is."""

import re

from gateway import delivery_ids
from gateway.schemes.checks import check_secrets
from gateway.schemes.shared import SharedSecret
from gateway.sources import Facts, Incoming, Sample, Source
from schemas.schedules import SourceConfig

_ID = "update_id"
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")  # core.telegram.org/bots/api#setwebhook


def _read(incoming: Incoming) -> Facts:
    document = incoming.document
    names = [name for name in document if name != _ID] if isinstance(document, dict) else []
    return Facts(
        event_type=names[0] if names and "\0" not in names[0] else None,
        delivery_id=delivery_ids.named("telegram", incoming.at(_ID)),
    )


def _check(config: SourceConfig) -> None:
    message = "is not what Telegram takes as secret_token: 1 to 256 of A-Z a-z 0-9 _ -"
    check_secrets(config, lambda secret: _SECRET.fullmatch(secret) is not None, message)


source = Source(
    name="telegram",
    title="Telegram",
    schemes=(SharedSecret(header="X-Telegram-Bot-Api-Secret-Token"),),
    read=_read,
    check=_check,
    setup="Call setWebhook of the Bot API: url is the URL of a token, secret_token the secret of the schedule.",
    dedupe="`update_id`",
    samples={
        "message": Sample(
            headers={"content-type": "application/json"},
            body=(
                b'{"update_id": {unix}, "message": {"message_id": 1365, "date": {unix}, "text": "/run", '
                b'"chat": {"id": 1111111, "type": "private"}, "from": {"id": 1111111, "is_bot": false}}}'
            ),
        )
    },
)
