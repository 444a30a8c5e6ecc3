"""Which of the two forms of a log a client would rather have."""


def prefers_json(accept: str) -> bool:
    """Say whether a client likes JSON better than text; where it likes both alike, Airflow sends text."""
    text, json = _quality(accept, "text/plain"), _quality(accept, "application/json")
    return json > text or text == 0


def _quality(accept: str, kind: str) -> float:
    """Find how much a media type is wanted (RFC 9110, section 12.5.1): the most specific range counts."""
    best = (0, 0.0)
    for part in accept.split(","):
        wanted, _, rest = part.strip().lower().partition(";")
        places = {"*/*": 1, f"{kind.partition('/')[0]}/*": 2, kind: 3}
        place = places.get(wanted.strip(), 0)
        best = max(best, (place, _weight(rest))) if place else best
    return best[1]


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
