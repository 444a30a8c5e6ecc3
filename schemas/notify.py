"""Whom a pipeline or schedule tells what became of its runs."""

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from schemas.errors import FieldError, Invalid

MASK = "***"
LONGEST_SHOWN_SEGMENT = 19  # of a path; what is longer may be a token
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
        """Hide the Slack URL, which is a secret, and what may be secret in the callback URL."""
        return msgspec.structs.replace(
            self, slack_url=self.slack_url and MASK, callback_url=self.callback_url and mask_url(self.callback_url)
        )

    def unmasked(self, old: "Notify | None" = None) -> "Notify":
        """Put what was there before in the place of a mask that a client sends back; raises Invalid if nothing was."""
        known = old or Notify()
        if self.slack_url == MASK and known.slack_url is None:
            raise Invalid(errors=(FieldError("/notify/slack_url", "there is none yet that this mask could stand for"),))
        shown = known.masked()
        return msgspec.structs.replace(
            self,
            slack_url=known.slack_url if self.slack_url == MASK else self.slack_url,
            callback_url=known.callback_url if self.callback_url == shown.callback_url else self.callback_url,
        )


def mask_url(url: str, *, is_secret: bool = False) -> str:
    """Hide what may be secret in a URL: password, long segments, values of the query; or all but the host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    user = f"{MASK}@" if "@" in parts.netloc else ""
    if is_secret:
        return f"{parts.scheme}://{user}{host}/{MASK}"
    path = "/".join(map(_mask_segment, parts.path.split("/")))
    query = "&".join(map(_mask_pair, parts.query.split("&")))
    return f"{parts.scheme}://{user}{host}{path}" + (f"?{query}" if parts.query else "")


def _mask_segment(segment: str) -> str:
    return MASK if len(segment) > LONGEST_SHOWN_SEGMENT else segment


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={MASK}" if equals else MASK
