"""How Mage's bodies are read, and what stands between its words and ours."""

from typing import Any

import msgspec
import pytest

from gateway.credentials import could_be_token, is_foreign
from gateway.dialects.mage import wire
from schemas.errors import PenstockError
from schemas.states import BlockState, RunState
from tests.system import KEY

FOREIGN = "260385a38d62466fb1c88fa8c5ca503f"


@pytest.mark.parametrize(
    ("body", "variables", "payload"),
    [
        (b'{"a": 1}', {}, None),
        (b'[{"pipeline_run": 1}]', {}, None),
        (b"pipeline_run=1", {}, None),
        (b"", {}, None),
        (b'{"pipeline_run": {}}', {}, b"{}"),
        (b'{"pipeline_run": {"variables": {"b": [2]}}, "a": 1.50}', {"b": [2]}, b'{"a":1.50}'),
    ],
)
def test_a_body_is_split_into_variables_and_the_rest(
    body: bytes, variables: dict[str, Any], payload: bytes | None
) -> None:
    assert wire.unwrap_trigger(body) == wire.Unwrapped(variables, payload)


@pytest.mark.parametrize("forged", ["id", "status", "execution_date", "passed_sla", "backfill_id", "event_variables"])
def test_a_caller_sets_nothing_but_variables(forged: str) -> None:
    with pytest.raises(PenstockError, match=f"^pipeline_run: callers set variables and nothing else, not {forged}.$"):
        wire.unwrap_trigger(msgspec.json.encode({"pipeline_run": {"variables": {}, forged: 1}}))


def test_a_key_in_the_body_of_a_request_is_not_stored_with_it() -> None:
    body = msgspec.json.encode({"api_key": KEY, "pipeline_run": {"variables": {"a": 1}}})

    assert wire.without_key(body) == b'{"pipeline_run":{"variables":{"a":1}}}'


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (FOREIGN, True),
        (FOREIGN.upper(), False),
        (FOREIGN[:-1], False),
        (FOREIGN + "0", False),
        (FOREIGN[:-1] + "g", False),
        (FOREIGN + "\n", False),
    ],
)
def test_only_what_has_the_form_of_mages_tokens_is_looked_up(text: str, is_one: bool) -> None:
    assert (is_foreign(text), could_be_token(text)) == (is_one, is_one)


def test_each_state_of_ours_has_a_word_of_mages() -> None:
    assert set(wire.RUN_STATUS) == set(RunState)
    assert set(wire.BLOCK_STATUS) == set(BlockState)
