"""What stands in a document of which nothing is known: what is absent, of another type or unfit for a name is None."""

from collections.abc import Mapping
from typing import Any

from gateway.incoming import Incoming

LONGEST_TEXT = 2000


def find(document: Any, *path: str) -> Any:
    """Return the member at the end of `path`, or None where an object or a name is missing."""
    for name in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document


def text(document: Any, *path: str) -> str | None:
    """Return the member at the end of `path` when it is a text that can be stored and compared as a name."""
    found = find(document, *path)
    return found if isinstance(found, str) and _is_name(found) else None


def objects(document: Any, *path: str) -> list[dict[str, Any]]:
    """Return the objects in the list at the end of `path`; whatever else stands there is left out."""
    found = find(document, *path) if path else document
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def decoded(content: bytes, content_type: str = "") -> Any:
    """Read bytes that came inside a document as bodies are read; what is neither JSON nor text is None."""
    return Incoming({"content-type": content_type}, content).document if _is_text(content) else None


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _is_name(found: str) -> bool:
    return 0 < len(found) <= LONGEST_TEXT and _is_text(found.encode("utf-8", "surrogatepass"))
