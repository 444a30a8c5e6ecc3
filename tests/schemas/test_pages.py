"""One way to page: what comes back as a cursor is read, and whatever else comes is a clear refusal."""

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Invalid
from schemas.pages import DEFAULT_LIMIT, LARGEST_LIMIT, Listing, Page


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_without_parameters_it_is_the_first_page_of_the_usual_length() -> None:
    page = Page.parse(None, None)

    assert (page.limit, page.after_text, page.before_id, page.after_number) == (DEFAULT_LIMIT, None, None, 0)


@pytest.mark.parametrize("limit", [0, -1, LARGEST_LIMIT + 1, 2**31])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(Invalid, match=f"limit is between 1 and 200, not {limit}"):
        Page.parse(limit, None)


def test_a_full_list_has_no_next_page() -> None:
    assert Page.parse(3, None).listing([1, 2, 3], lambda item: item) == Listing([1, 2, 3], None)


def test_the_item_beyond_the_limit_is_left_for_the_next_page_and_the_cursor_names_the_last_one_shown() -> None:
    listing = Page.parse(2, None).listing([5, 7, 9], lambda item: item)

    assert listing.items == [5, 7]
    assert Page.parse(2, listing.next_cursor).after_number == 7


def test_paging_through_a_list_shows_everything_once() -> None:
    everything = list(range(1, 24))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = Page.parse(5, cursor)
        rest = [item for item in everything if item > page.after_number]
        listing = page.listing(rest[: page.limit + 1], lambda item: item)
        seen += listing.items
        if (cursor := listing.next_cursor) is None:
            break
    assert seen == everything


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
def test_any_key_survives_the_way_through_a_cursor(key: str) -> None:
    cursor = Page.parse(1, None).listing([key, "beyond"], lambda item: item).next_cursor

    assert Page.parse(1, cursor).after_text == key


def test_an_id_survives_the_way_through_a_cursor() -> None:
    key = uuid.uuid4()
    cursor = Page.parse(1, None).listing([key, key], lambda item: item).next_cursor

    assert Page.parse(1, cursor).before_id == key


@pytest.mark.parametrize("cursor", ["a", "ab cd!", "ÿ", cursor_of("a\0b"), base64.b64encode(b"\xff\xfe").decode()])
def test_what_was_never_a_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid, match="not one of ours"):
        Page.parse(None, cursor)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "99999999999", str(2**31), "٣"])
def test_a_cursor_of_another_list_is_refused(text: str) -> None:
    page = Page.parse(None, cursor_of(text))

    with pytest.raises(Invalid, match="not one of ours"):
        _ = page.after_number
    with pytest.raises(Invalid, match="not one of ours"):
        _ = page.before_id


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_any_text_is_a_cursor_or_refused(cursor: str) -> None:
    for read in (lambda page: page.after_text, lambda page: page.before_id, lambda page: page.after_number):
        try:
            read(Page.parse(None, cursor))
        except Invalid:
            continue
