"""What people did: who changed what, and when. The table `audit` only grows; no entry ever holds a secret."""

import datetime as dt
import uuid
from enum import StrEnum

import msgspec

from schemas.states import Role


class Action(StrEnum):
    """What was done, as `KIND.VERB`; the subject of the entry is one of that kind."""

    RUN_CANCEL = "run.cancel"
    RUN_RESUME = "run.resume"
    RUN_RERUN = "run.rerun"
    RUN_MARK = "run.mark"
    RUN_NOTE = "run.note"
    RUN_DELETE = "run.delete"
    BACKFILL_CREATE = "backfill.create"
    BACKFILL_PAUSE = "backfill.pause"
    BACKFILL_UNPAUSE = "backfill.unpause"
    BACKFILL_CHANGE = "backfill.change"
    BACKFILL_CANCEL = "backfill.cancel"
    PIPELINE_PAUSE = "pipeline.pause"
    PIPELINE_UNPAUSE = "pipeline.unpause"
    PIPELINE_CHANGE = "pipeline.change"
    SCHEDULE_CREATE = "schedule.create"
    SCHEDULE_PAUSE = "schedule.pause"
    SCHEDULE_UNPAUSE = "schedule.unpause"
    SCHEDULE_CHANGE = "schedule.change"
    SCHEDULE_DELETE = "schedule.delete"
    TOKEN_CREATE = "token.create"  # noqa: S105 - a word, no secret
    TOKEN_IMPORT = "token.import"  # noqa: S105
    TOKEN_ROTATE = "token.rotate"  # noqa: S105
    TOKEN_REVOKE = "token.revoke"  # noqa: S105
    LINK_CREATE = "link.create"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    PURGE_CREATE = "purge.create"
    REPLAY_CREATE = "replay.create"
    REPLAY_CANCEL = "replay.cancel"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One deed; `caller` and `role` are those of the key at that time, `subject` is such as `run:ID`."""

    id: uuid.UUID
    at: dt.datetime
    key_id: uuid.UUID | None
    caller: str
    role: Role
    action: str
    subject: str
    details: msgspec.Raw
