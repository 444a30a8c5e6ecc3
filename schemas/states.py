"""The words for where a run, a block run, and a delivery stand."""

from enum import StrEnum


class RunState(StrEnum):
    """States of a run; the last three are terminal and are entered once."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL_RUN_STATES


TERMINAL_RUN_STATES = frozenset({RunState.SUCCESS, RunState.FAILED, RunState.CANCELLED})


class BlockState(StrEnum):
    """States of one block in one run; `pending` also means: waiting for its next attempt."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UPSTREAM_FAILED = "upstream_failed"


class TriggerRule(StrEnum):
    """When a block with blocks before it starts; a block that never will is `skipped` or `upstream_failed`."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ONE_FAILED = "one_failed"
    NONE_FAILED = "none_failed"


class CallbackOn(StrEnum):
    """Which end of a run, or of a block, calls a function of the pipeline's author."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCEL = "cancel"


class VerificationMode(StrEnum):
    """What becomes of a delivery that cannot be verified: it is refused, or let in with a note."""

    STRICT = "strict"
    OBSERVE = "observe"


class Verdict(StrEnum):
    """What the gateway decided about a delivery."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FILTERED = "filtered"
    HANDSHAKE = "handshake"
    REJECTED = "rejected"


class Role(StrEnum):
    """Roles of an API key, from the smallest to the largest; each may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Origin(StrEnum):
    """Why a run exists: a delivery, a call, the clock, a backfill, an older run, or a run that triggered it."""

    EVENT = "event"
    API = "api"
    TIME = "time"
    BACKFILL = "backfill"
    RESUME = "resume"
    RERUN = "rerun"
    REPLAY = "replay"
    RUN = "run"


class OnPaused(StrEnum):
    """What a delivery to a paused schedule, or a call to a paused pipeline, does."""

    QUEUE = "queue"
    REJECT = "reject"
    RUN = "run"


class ScheduleKind(StrEnum):
    """How a schedule is started: by a token, or by the clock."""

    API = "api"
    TIME = "time"


class Overlap(StrEnum):
    """What a time schedule does when its previous run is still active."""

    ALLOW = "allow"
    SKIP = "skip"


class LogLevel(StrEnum):
    """Level of one line of a block's log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
