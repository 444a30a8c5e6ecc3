"""What starts pipelines in another product, in the words of our schedules, for those who move here."""

from typing import Any

import msgspec


class Mapped(msgspec.Struct, frozen=True):
    """The fields of our schedule, why it cannot be made at all, and what it will do otherwise than it did there."""

    fields: dict[str, Any] = {}
    obstacles: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
