"""How long a caller wants to wait for an answer."""

LONGEST_WAIT_S = 60


def wait_s(prefer: str) -> int:
    """Read `Prefer: wait=N` (RFC 7240, section 4.3), bounded; 0 when it is not there."""
    for preference in prefer.split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "wait" and value.isascii() and value.isdigit():
            return min(int(value[:6]), LONGEST_WAIT_S)
    return 0
