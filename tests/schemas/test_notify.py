"""What is shown of the URLs that runs tell."""

import pytest

from schemas.errors import Invalid
from schemas.notify import Notify, mask_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/done", "https://example.org/done"),
        ("https://example.org:8443/a/b?c=d&e", "https://example.org:8443/a/b?c=***&***"),
        ("https://ada:secret@example.org/", "https://***@example.org/"),
        (f"https://example.org/{'t' * 20}/x#secret", "https://example.org/***/x"),
        ("https://example.org/01980000-0000-7000-8000-000000000009", "https://example.org/***"),
        ("http://[::1/", "***"),
    ],
)
def test_what_may_be_secret_in_a_url_is_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_of_a_secret_url_only_the_host_is_shown() -> None:
    assert mask_url("https://hooks.example.org/T/B/s", is_secret=True) == "https://hooks.example.org/***"


def test_a_mask_stands_for_what_was_there() -> None:
    old = Notify(callback_url="https://example.org/?a=b", slack_url="https://hooks.example.org/s")

    assert old.masked().unmasked(old) == old
    assert Notify(slack_url="https://new.example.org/").unmasked(old).slack_url == "https://new.example.org/"
    with pytest.raises(Invalid):
        Notify(slack_url="***").unmasked()
