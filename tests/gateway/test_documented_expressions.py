"""The examples of docs/expressions.md give what the page says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.expressions import compile_expression
from tests.gateway.deliveries import subject

PAGE = Path(__file__).parents[2] / "docs" / "expressions.md"
EXAMPLES = re.findall(r"^\| `(.+)` \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)
PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "after": "3c4d",
    "deleted": False,
    "forced": False,
    "repository": {"id": 42, "full_name": "acme/shop"},
    "commits": [
        {
            "id": "1a2b",
            "timestamp": "2023-11-14T20:00:00Z",
            "author": {"email": "ada@example.com"},
            "modified": ["src/shop.py", "docs/shop.md"],
        },
        {"id": "3c4d", "timestamp": "2023-11-14T21:00:00Z", "author": {"email": "bob@example.org"}, "modified": []},
    ],
}
HEADERS = {"content-type": "application/json", "user-agent": "GitHub-Hookshot/1"}


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 20


@pytest.mark.parametrize(("text", "value"), EXAMPLES)
def test_an_example_gives_what_the_page_says(text: str, value: str) -> None:
    expression = compile_expression(text.replace("\\|", "|"))

    assert expression.evaluate(subject(PUSH, headers=HEADERS)) == json.loads(value)
