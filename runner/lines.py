"""Text that user code writes, made safe to store: whole lines, bounded, without NUL, valid UTF-8."""

LINE_LIMIT = 16 << 10
TRUNCATED = "… truncated"
_REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """Cut `text` at 16 Ki characters, and replace what Postgres refuses; other control characters stay."""
    if len(text) > LINE_LIMIT:
        text = text[:LINE_LIMIT] + TRUNCATED
    if "\0" in text:
        text = text.replace("\0", _REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class LineSplitter:
    """Collects text until a line is whole; remembers no more than one line's limit."""

    def __init__(self) -> None:
        self._partial = ""

    def feed(self, text: str) -> list[str]:
        """Return the lines that `text` completes."""
        *lines, rest = (self._partial + text).split("\n")
        self._partial = rest[: LINE_LIMIT + 1]
        return [clean(line.removesuffix("\r")) for line in lines]

    def flush(self) -> list[str]:
        """Return the unfinished line, if there is one."""
        rest, self._partial = self._partial, ""
        return [clean(rest)] if rest else []
