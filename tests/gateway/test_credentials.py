"""Secrets have a shape by which they are known, and a signature is proof of an id and nothing more."""

import hashlib
import re
import uuid
import zlib

import itsdangerous
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import credentials
from gateway.credentials import LinkSigner, could_be_token

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = "pst_PenstockPenstockPenstockPenstockPenstock123383elU"
LINK_ID = uuid.UUID("0198f0a0-0000-7000-8000-000000000001")
LINK = "0198f0a0000070008000000000000001.awAlBA.fIBBM2gcMjKMIH83csMa23gH1lXBtrfmRPT44uJDG5s"


def base62(number: int) -> str:
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def test_a_token_is_a_prefix_256_bits_and_a_checksum() -> None:
    token = credentials.new_token()

    assert re.fullmatch(r"pst_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", token)
    assert token[-6:] == base62(zlib.crc32(token[:-6].encode()))
    assert could_be_token(token)


def test_the_form_of_a_token_stays_what_it_is() -> None:
    assert could_be_token(TOKEN)


def test_a_key_has_the_same_form_and_its_own_prefix() -> None:
    key = credentials.new_key()

    assert re.fullmatch(r"psk_[0-9A-Za-z]{49}", key)
    assert key[-6:] == base62(zlib.crc32(key[:-6].encode()))
    assert not could_be_token(key)


def test_no_two_secrets_are_alike() -> None:
    assert len({credentials.new_token() for _ in range(1_000)}) == 1_000


def test_a_mistyped_token_needs_no_look_up() -> None:
    token = credentials.new_token()
    for position in range(4, len(token)):
        other = "x" if token[position] != "x" else "y"
        assert not could_be_token(token[:position] + other + token[position + 1 :])
    for position in range(4, len(token) - 1):
        if token[position] != token[position + 1]:
            swapped = token[:position] + token[position + 1] + token[position] + token[position + 2 :]
            assert not could_be_token(swapped)


@given(st.text() | st.text(ALPHABET, min_size=49, max_size=49).map(lambda text: "pst_" + text))
def test_any_text_is_a_token_or_is_not(text: str) -> None:
    right = re.fullmatch(r"pst_[0-9A-Za-z]{49}", text, re.ASCII) and text[-6:] == base62(zlib.crc32(text[:-6].encode()))

    assert could_be_token(text) == bool(right)


@given(st.text(ALPHABET, min_size=43, max_size=43))
def test_every_text_with_the_right_checksum_is_a_token(body: str) -> None:
    text = "pst_" + body

    assert could_be_token(text + base62(zlib.crc32(text.encode())))


@pytest.mark.parametrize("around", [" {}", "{}\n", "{}\0", "{}=", "\u200b{}"])
def test_a_token_with_something_around_it_is_none(around: str) -> None:
    assert not could_be_token(around.format(credentials.new_token()))


@given(st.text())
def test_any_text_has_a_digest_of_32_bytes(text: str) -> None:
    assert len(credentials.digest(text)) == 32


def test_a_hint_is_too_short_to_help_a_guesser() -> None:
    token = credentials.new_token()

    assert credentials.hint(token) == token[-4:]


def test_a_link_that_we_signed_tells_its_id() -> None:
    signer = LinkSigner(["a key"])

    assert signer.read(signer.sign(LINK_ID)) == LINK_ID


def test_a_link_is_fit_for_a_url() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", LinkSigner(["a key"]).sign(LINK_ID))


def test_the_newest_key_signs_and_every_key_that_is_left_verifies() -> None:
    signed_before = LinkSigner(["old"]).sign(LINK_ID)
    rotating, after = LinkSigner(["old", "new"]), LinkSigner(["new"])

    assert rotating.read(signed_before) == LINK_ID
    assert after.read(rotating.sign(LINK_ID)) == LINK_ID
    assert LinkSigner(["old"]).read(rotating.sign(LINK_ID)) is None
    assert after.read(signed_before) is None


def test_a_signature_made_for_another_purpose_with_the_same_key_is_none() -> None:
    other = itsdangerous.TimestampSigner(
        "a key", salt="another purpose", key_derivation="hmac", digest_method=hashlib.sha256
    ).sign(LINK_ID.hex)

    assert LinkSigner(["a key"]).read(other.decode()) is None


@pytest.mark.parametrize("value", [b"", b"not an id", LINK_ID.bytes, b"\xff", LINK_ID.hex.encode() + b"00"])
def test_what_is_signed_but_is_no_id_is_none(value: bytes) -> None:
    signed = itsdangerous.TimestampSigner(
        "a key", salt="penstock.link", key_derivation="hmac", digest_method=hashlib.sha256
    ).sign(value)

    assert LinkSigner(["a key"]).read(signed.decode("latin-1")) is None


def test_the_form_of_a_link_stays_what_it_is() -> None:
    """Links live for a year: whoever changes how they are signed must still read these."""
    assert LinkSigner(["a key"]).read(LINK) == LINK_ID


def test_another_spelling_of_a_signature_is_the_same_id_and_never_another() -> None:
    """itsdangerous takes several spellings of one signature, so the text of a link must not be a key for anything."""
    signer = LinkSigner(["a key"])
    signed = signer.sign(LINK_ID)
    spellings = {signed[:-1] + last for last in ALPHABET + "-_"} | {signed + "=", signed + "\n"}

    read = {text: signer.read(text) for text in spellings}

    assert set(read.values()) <= {LINK_ID, None}
    assert sum(found == LINK_ID for found in read.values()) > 1


def test_a_link_with_its_id_changed_is_none() -> None:
    signer = LinkSigner(["a key"])
    payload, stamp, signature = signer.sign(LINK_ID).split(".")
    other = uuid.uuid4().hex

    assert signer.read(f"{payload}.{stamp}.{signature}") == LINK_ID
    assert signer.read(f"{other}.{stamp}.{signature}") is None
    assert signer.read(f"{payload}.AAAAAA.{signature}") is None


@given(st.text() | st.text(ALPHABET + "-_."))
def test_any_other_text_is_no_link(text: str) -> None:
    assert LinkSigner(["a key"]).read(text) is None


@given(st.integers(0, 60), st.characters(max_codepoint=255))
def test_a_link_with_one_character_changed_is_the_same_id_or_none(position: int, character: str) -> None:
    signer = LinkSigner(["a key"])
    signed = signer.sign(LINK_ID)

    assert signer.read(signed[:position] + character + signed[position + 1 :]) in (LINK_ID, None)
