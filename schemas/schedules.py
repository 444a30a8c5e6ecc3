"""What may start a pipeline and how: schedules, the tokens that fire them, and signed links."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.errors import FieldError, Invalid
from schemas.notify import MASK, Notify
from schemas.pipelines import PipelineId
from schemas.settings import MAX_BODY_LIMIT
from schemas.states import OnPaused, Overlap, ScheduleKind, VerificationMode
from schemas.timetables import Timetable

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Secret = Annotated[str, Meta(min_length=1, max_length=1000)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=100, pattern="^[A-Za-z0-9-]+$")]
Host = Annotated[str, Meta(min_length=1, max_length=253, pattern="^[A-Za-z0-9.:-]+$")]
BodyLimit = Annotated[int, Meta(ge=1, le=MAX_BODY_LIMIT)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000)]
Span = Annotated[int, Meta(ge=1, le=366 * 86_400)]
Timeout = Annotated[float, Meta(gt=0, le=366 * 86_400)]
CelText = Annotated[str, Meta(min_length=1, max_length=10_000)]
Mapping = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=200)], CelText], Meta(max_length=200)]
Jitter = Annotated[int, Meta(ge=0, le=86_400)]
Cron = Annotated[str, Meta(min_length=1, max_length=200)]
TimeZone = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[dt.datetime, Meta(tz=True)]


class SignatureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How source `hmac` finds and makes a signature.

    `template` is what is signed: any text with `{body}` and, when their headers are named, `{timestamp}` and `{id}`.
    """

    header: HeaderName
    prefix: Annotated[str, Meta(max_length=50)] = ""
    template: Annotated[str, Meta(max_length=200, pattern=r"\{body\}")] = "{body}"
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    key_encoding: Literal["text", "base64", "hex"] = "text"
    timestamp_header: HeaderName | None = None
    id_header: HeaderName | None = None
    event_type_header: HeaderName | None = None
    tolerance_s: Annotated[int, Meta(ge=1, le=86_400)] = 300


class SourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What verifying a sender needs; every secret is live at once, so that a sender can rotate.

    In the mode `observe` a delivery that cannot be verified is let in, and what `strict` would have said is written
    down with it. `public_key` is hex (Discord) or `whpk_...` (Standard Webhooks v1a); `certificate_hosts` and
    `jwks_url` replace where SNS's certificates and Google's keys may come from.
    """

    secrets: tuple[Secret, ...] = ()
    mode: VerificationMode = VerificationMode.STRICT
    public_key: Annotated[str, Meta(max_length=2000)] = ""
    verify_token: Annotated[str, Meta(max_length=1000)] = ""
    audience: Annotated[str, Meta(max_length=2000)] = ""
    email: Annotated[str, Meta(max_length=320)] = ""
    jwks_url: Annotated[str, Meta(max_length=2000, pattern=r"^(https?://[^@\s]+)?$")] = ""
    certificate_hosts: Annotated[tuple[Host, ...], Meta(max_length=20)] = ()
    topics: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    signature: SignatureConfig | None = None

    def masked(self) -> "SourceConfig":
        return msgspec.structs.replace(
            self, secrets=(MASK,) * len(self.secrets), verify_token=self.verify_token and MASK
        )

    def unmasked(self, old: "SourceConfig | None" = None) -> "SourceConfig":
        """Put old secrets in the places of masks that a client sends back; raises Invalid where there was none."""
        known = old or SourceConfig()
        for place, secret in enumerate(self.secrets):
            if secret == MASK and place >= len(known.secrets):
                raise _unknown_mask(f"/source_config/secrets/{place}")
        if self.verify_token == MASK and not known.verify_token:
            raise _unknown_mask("/source_config/verify_token")
        return msgspec.structs.replace(
            self,
            secrets=tuple(known.secrets[at] if secret == MASK else secret for at, secret in enumerate(self.secrets)),
            verify_token=known.verify_token if self.verify_token == MASK else self.verify_token,
        )


def _unknown_mask(pointer: str) -> Invalid:
    return Invalid(errors=(FieldError(pointer, "there is none yet that this mask could stand for"),))


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules`."""

    pipeline_id: PipelineId
    name: Name
    kind: ScheduleKind = ScheduleKind.API
    source: Name = "generic"
    source_config: SourceConfig = SourceConfig()
    filter: CelText | None = None
    mapping: Mapping = {}
    dedupe: CelText | None = None
    split: bool = False
    variables: dict[str, Any] = {}
    is_paused: bool = False
    on_paused: OnPaused = OnPaused.QUEUE
    max_active_runs: Positive | None = None
    body_limit: BodyLimit | None = None
    cron: Cron | None = None
    every_s: Span | None = None
    timezone: TimeZone = "UTC"
    start_at: Moment | None = None
    end_at: Moment | None = None
    catchup: bool = False
    jitter_s: Jitter = 0
    overlap: Overlap = Overlap.ALLOW
    sla_s: Span | None = None
    run_timeout_s: Timeout | None = None
    max_queue_age_s: Span | None = None
    notify: Notify = Notify()


class ScheduleFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which schedules a list that is paged by offset shows."""

    pipeline_id: str | None = None
    kinds: tuple[ScheduleKind, ...] = ()
    is_paused: bool | None = None


class ScheduleName(msgspec.Struct, frozen=True, kw_only=True):
    """What other products show of a run's schedule, also when it was deleted since."""

    id: uuid.UUID
    number: int
    name: str
    kind: ScheduleKind


class SchedulePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/schedules/{id}`: what is left out stays."""

    name: Name | UnsetType = UNSET
    source: Name | UnsetType = UNSET
    source_config: SourceConfig | UnsetType = UNSET
    filter: CelText | UnsetType | None = UNSET
    mapping: Mapping | UnsetType = UNSET
    dedupe: CelText | UnsetType | None = UNSET
    split: bool | UnsetType = UNSET
    variables: dict[str, Any] | UnsetType = UNSET
    is_paused: bool | UnsetType = UNSET
    on_paused: OnPaused | UnsetType = UNSET
    max_active_runs: Positive | UnsetType | None = UNSET
    body_limit: BodyLimit | UnsetType | None = UNSET
    cron: Cron | UnsetType | None = UNSET
    every_s: Span | UnsetType | None = UNSET
    timezone: TimeZone | UnsetType = UNSET
    start_at: Moment | UnsetType | None = UNSET
    end_at: Moment | UnsetType | None = UNSET
    catchup: bool | UnsetType = UNSET
    jitter_s: Jitter | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    sla_s: Span | UnsetType | None = UNSET
    run_timeout_s: Timeout | UnsetType | None = UNSET
    max_queue_age_s: Span | UnsetType | None = UNSET
    notify: Notify | UnsetType = UNSET


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is stored; `masked()` before it is shown.

    `next_fire_at` is where its clock stands: null after its end and for kind `api`, in the past while it is paused.
    """

    id: uuid.UUID
    number: int
    pipeline_id: str
    name: str
    kind: ScheduleKind
    source: str
    source_config: SourceConfig
    filter: str | None
    mapping: dict[str, str]
    dedupe: str | None
    split: bool
    variables: msgspec.Raw
    is_paused: bool
    on_paused: OnPaused
    max_active_runs: int | None
    body_limit: int | None
    cron: str | None
    every_s: int | None
    timezone: str
    start_at: dt.datetime | None
    end_at: dt.datetime | None
    catchup: bool
    jitter_s: int
    overlap: Overlap
    sla_s: int | None
    run_timeout_s: float | None
    max_queue_age_s: int | None
    notify: Notify
    next_fire_at: dt.datetime | None
    last_fired_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime

    def timetable(self) -> Timetable:
        """Read when it fires; raises Invalid, also when it is not of kind `time`."""
        return Timetable.parse(self.cron, self.every_s, self.timezone, self.start_at, self.end_at)

    def masked(self) -> "Schedule":
        return msgspec.structs.replace(self, source_config=self.source_config.masked(), notify=self.notify.masked())


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """All that the ingest path must know of a schedule, found by a token's hash."""

    hash: bytes
    token_id: uuid.UUID
    expires_at: dt.datetime | None
    schedule_id: uuid.UUID
    number: int
    pipeline_id: str
    source: str
    source_config: SourceConfig
    variables: msgspec.Raw
    body_limit: int | None
    is_paused: bool
    on_paused: OnPaused
    filter: str | None = None
    mapping: dict[str, str] = {}
    dedupe: str | None = None
    split: bool = False
    rules_id: uuid.UUID | None = None
    params_schema: dict[str, Any] | None = None
    queue: str


class LinkGate(Gate, frozen=True, kw_only=True):
    """The same, found by a signed link, which may pin variables."""

    pinned: msgspec.Raw

    def gate(self) -> Gate:
        """Merge the pinned variables into the schedule's."""
        merged = msgspec.json.decode(self.variables, type=dict[str, msgspec.Raw])
        merged |= msgspec.json.decode(self.pinned, type=dict[str, msgspec.Raw])
        return msgspec.structs.replace(self, variables=msgspec.Raw(msgspec.json.encode(merged)))


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules/{id}/tokens`."""

    label: Annotated[str, Meta(max_length=200)] = ""
    expires_at: Annotated[dt.datetime, Meta(tz=True)] | None = None


class ImportedToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules/{id}/tokens/imported`: the SHA-256, in hex, of a token that a sender already has.

    `hint` is what people recognise it by, its last characters. The token is 32 hexadecimal digits in lower case (Mage),
    or 48 after `whk_` (Brokoli).
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    hint: Annotated[str, Meta(max_length=4, pattern="^[0-9a-f]*$")] = ""
    label: Annotated[str, Meta(max_length=200)] = ""


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tokens/{id}/rotate`: how many seconds the old token lives on."""

    grace_s: Annotated[int, Meta(ge=0, le=90 * 86_400)] = 86_400


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is listed: never itself, only a hint."""

    id: uuid.UUID
    schedule_id: uuid.UUID
    hint: str
    label: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


class ShownToken(msgspec.Struct, frozen=True, kw_only=True):
    """The one answer that carries a token."""

    id: uuid.UUID
    token: str
    url: str
    label: str
    expires_at: dt.datetime | None


class NewLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules/{id}/links`; pinned variables win over the schedule's."""

    expires_in_s: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 86_400
    max_uses: Positive | None = 1
    variables: dict[str, Any] = {}


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A signed trigger link, right after it was made."""

    id: uuid.UUID
    url: str
    expires_at: dt.datetime
    max_uses: int | None
    variables: dict[str, Any]
