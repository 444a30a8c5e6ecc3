"""Everything that can be wrong, as one tree without any HTTP in it.

    PenstockError
    ├── Invalid            the request or a definition is wrong; `errors` points at the fields
    │   └── Malformed      it cannot be read at all
    ├── Unauthenticated    no credential, or one that we do not know
    │   └── BadSignature   a delivery's signature does not match its bytes
    ├── Forbidden          known, but the role is too small
    ├── NotFound
    ├── Conflict           true right now, may change; `extra` says with what
    ├── TooLarge
    ├── Unavailable        our fault and temporary; `retry_after` in seconds
    ├── LeaseLost          somebody else owns the run now
    └── SettingsError      the process must not start like this
        └── UnsafeDatabase

The first line of each docstring is the default message. `gateway/errors.py` maps classes to HTTP, nothing else does.
"""

from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: `pointer` is an RFC 6901 JSON Pointer into the request body."""

    pointer: str
    message: str


class PenstockError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, **extra: Any) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.extra = extra
        super().__init__(self.message)


class Invalid(PenstockError):
    """The request is not valid."""

    code = "invalid"

    def __init__(self, message: str | None = None, *, errors: tuple[FieldError, ...] = (), **extra: Any) -> None:
        super().__init__(message, **extra)
        self.errors = errors


class Malformed(Invalid):
    """The body cannot be read as the type that it declares."""

    code = "malformed"


class Unauthenticated(PenstockError):
    """A valid API key is needed: send it in the header Authorization, after the word Bearer."""

    code = "unauthenticated"


class BadSignature(Unauthenticated):
    """The signature does not match the delivered bytes."""

    code = "bad_signature"


class Forbidden(PenstockError):
    """The role of this API key does not allow that."""

    code = "forbidden"


class NotFound(PenstockError):
    """There is nothing here."""

    code = "not_found"


class Conflict(PenstockError):
    """That is not possible in the current state."""

    code = "conflict"


class TooLarge(PenstockError):
    """The body is larger than allowed; send a reference to it instead (a path, a key or a URL)."""

    code = "too_large"

    @classmethod
    def of_body(cls, limit: int) -> "TooLarge":
        """Name the limit, in bytes, and the way around it."""
        reference = "send a reference to it instead (a path, a key or a URL)"
        return cls(f"The body is larger than {limit} bytes, the limit here: {reference}.", limit=limit)


class Unavailable(PenstockError):
    """A part that we need is away for the moment; try again."""

    code = "unavailable"

    def __init__(self, message: str | None = None, *, retry_after: int = 5, **extra: Any) -> None:
        super().__init__(message, **extra)
        self.retry_after = retry_after


class LeaseLost(PenstockError):
    """Another runner owns this run now; what this one still wants to write is refused."""

    code = "lease_lost"


class SettingsError(PenstockError):
    """A setting is wrong."""

    code = "settings"


class UnsafeDatabase(SettingsError):
    """The database cannot keep the promise that accepted means committed."""

    code = "unsafe_database"
