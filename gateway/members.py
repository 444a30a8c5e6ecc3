"""What stands in a document of which nothing is known: what is absent or of another type is None, or left out."""

from collections.abc import Mapping
from typing import Any

from gateway.incoming import Incoming


def find(document: Any, *path: str) -> Any:
    """Return the member at the end of `path`, or None where an object or a name is missing."""
    for name in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(name)
    return document


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
