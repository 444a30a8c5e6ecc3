"""Whom a pipeline or schedule tells what became of its runs."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import FieldError, Invalid

MASK = "***"
MaskedUrl = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^(https?://|\*\*\*$)")]
Url = Annotated[str, Meta(min_length=1, max_length=2000, pattern="^https?://")]
Address = Annotated[str, Meta(min_length=3, max_length=320, pattern="^[^@\\s]+@[^@\\s]+$")]


class Occasion(StrEnum):
    """When people are told: a run ended like this, or it passed its SLA."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PASSED_SLA = "passed_sla"


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A `callback_url` hears of the end of every run; Slack and e-mail hear of the occasions in `on`."""

    callback_url: Url | None = None
    slack_url: MaskedUrl | None = None
    email: Annotated[tuple[Address, ...], Meta(max_length=20)] = ()
    on: tuple[Occasion, ...] = (Occasion.FAILED, Occasion.PASSED_SLA)

    def masked(self) -> "Notify":
        """Hide the Slack URL, which is a secret."""
        return self if self.slack_url is None else msgspec.structs.replace(self, slack_url=MASK)

    def unmasked(self, old: "Notify | None" = None) -> "Notify":
        """Put what was there before in the place of a mask that a client sends back; raises Invalid if nothing was."""
        if self.slack_url != MASK:
            return self
        if old is None or old.slack_url is None:
            raise Invalid(errors=(FieldError("/notify/slack_url", "there is none yet that this mask could stand for"),))
        return msgspec.structs.replace(self, slack_url=old.slack_url)
