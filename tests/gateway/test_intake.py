"""What a delivery is, decided from its bytes alone."""

import json

import msgspec
import pytest

from gateway import credentials, intake
from gateway.incoming import Unwrapped
from gateway.rules import Finding
from gateway.sources import Incoming
from schemas.errors import BadSignature, Malformed
from schemas.payload import Kind
from schemas.schedules import Gate, SourceConfig
from schemas.states import OnPaused, Verdict, VerificationMode
from tests.captured_requests import SOURCES, read_config, read_request
from tests.gateway.deliveries import GATE

JSON = Incoming({"content-type": "application/json", "idempotency-key": "a"}, b"{}")


def gate(**fields: object) -> Gate:
    return msgspec.structs.replace(GATE, **fields)


def test_a_delivery_is_accepted_and_becomes_a_run() -> None:
    assessment = intake.assess(GATE, JSON)
    delivery = intake.write_down(GATE, JSON, assessment)

    assert (assessment.verdict, assessment.reason) == (Verdict.ACCEPTED, None)
    assert (assessment.kind, assessment.dedupe_key) == (Kind.JSON, "key:a")
    assert delivery.run_id is not None
    assert delivery.event_id < delivery.run_id
    assert (delivery.body, delivery.dedupe_key, delivery.variables) == (b"{}", "key:a", GATE.variables)


def test_a_handshake_is_kept_but_becomes_no_run() -> None:
    ping = read_request(SOURCES / "github" / "ping.http")
    github = gate(source="github", source_config=read_config("github"))

    assessment = intake.assess(github, ping)

    assert (assessment.verdict, assessment.reason) == (Verdict.HANDSHAKE, "ping is a handshake")
    assert intake.write_down(github, ping, assessment).run_id is None


def test_a_signature_is_looked_at_before_the_body_is_read() -> None:
    github = gate(source="github", source_config=SourceConfig(secrets=("a",)))

    with pytest.raises(BadSignature):
        intake.assess(github, Incoming({"content-type": "application/json"}, b"{"))


def test_declared_json_that_is_none_is_malformed() -> None:
    with pytest.raises(Malformed):
        intake.assess(GATE, Incoming({"content-type": "application/json"}, b"{"))


@pytest.mark.parametrize(
    ("on_paused", "verdict"),
    [(OnPaused.QUEUE, Verdict.ACCEPTED), (OnPaused.RUN, Verdict.ACCEPTED), (OnPaused.REJECT, Verdict.FILTERED)],
)
def test_a_pause_refuses_only_where_that_was_asked_for(on_paused: OnPaused, verdict: Verdict) -> None:
    assert intake.assess(gate(is_paused=True, on_paused=on_paused), JSON).verdict is verdict
    assert intake.assess(gate(is_paused=False, on_paused=on_paused), JSON).verdict is Verdict.ACCEPTED


def test_what_a_pause_turned_away_may_come_again() -> None:
    paused = gate(is_paused=True, on_paused=OnPaused.REJECT)
    delivery = intake.write_down(paused, JSON, intake.assess(paused, JSON))

    assert (delivery.verdict, delivery.dedupe_key, delivery.run_id) == (Verdict.FILTERED, None, None)
    assert delivery.reason == "the schedule is paused"


def test_secrets_among_the_headers_are_masked_and_the_rest_is_kept() -> None:
    token = credentials.new_token()
    kept = intake.keep(
        {
            "authorization": "Bearer secret",
            "proxy-authorization": "Basic secret",
            "cookie": "session=secret",
            "x-penstock-token": token,
            "x-api-key": "secret",
            "apikey": "secret",
            "x-gitlab-token": "secret",
            "x-hub-signature-256": "sha256=secret",
            "stripe-signature": "t=1,v1=secret",
            "x-amz-security-token": "secret",
            "x-goog-credential": "secret",
            "idempotency-key": "order-1",
            "content-type": "application/json",
            "x-github-event": "push",
            "referer": f"https://hooks.example.com/hooks/7/{token}?a=b",
            "origin": "https://hooks.example.com/api/pipeline_schedules/7/pipeline_runs/secret?a=b",
            "via": "/api/runs/secret",
        }
    )

    assert "secret" not in json.dumps(kept)
    assert token not in json.dumps(kept)
    assert {name: value for name, value in kept.items() if value != "***"} == {
        "idempotency-key": "order-1",
        "content-type": "application/json",
        "x-github-event": "push",
        "referer": "https://hooks.example.com/hooks/7/***?a=b",
        "origin": "https://hooks.example.com/api/pipeline_schedules/7/pipeline_runs/***?a=b",
        "via": "/api/runs/***",
    }
    assert len(kept) == 17
    assert intake.keep_query({"api_key": "a", "apiKey": "b", "page": "c"}) == "api_key=***&apiKey=***&page=c"


def test_a_wrapped_body_is_kept_whole_and_its_payload_goes_to_the_run() -> None:
    def unwrap(body: bytes) -> Unwrapped:
        assert body == b"whole"
        return Unwrapped({"given": 1, "over": 2}, b'{"a":1}')

    wrapped = Incoming({}, b"whole", unwrap=unwrap)
    owned = gate(variables=msgspec.Raw(b'{"over":1,"kept":3}'), mapping={"given": "size(body)"})

    delivery = intake.write_down(owned, wrapped, intake.assess(owned, wrapped))

    assert (delivery.body, delivery.event_item, delivery.kind) == (b"whole", b'{"a":1}', Kind.TEXT)
    assert json.loads(bytes(delivery.variables)) == {"over": 2, "kept": 3, "given": 5}


def test_variables_that_a_sender_sets_are_checked_like_those_that_are_mapped() -> None:
    picky = gate(params_schema={"type": "object", "properties": {"given": {"type": "string"}}})
    wrapped = Incoming({}, b"", unwrap=lambda _body: Unwrapped({"given": 1}))

    assessment = intake.assess(picky, wrapped)

    assert (assessment.verdict, assessment.reason_code) == (Verdict.REJECTED, "params_invalid")


def test_headers_are_read_as_the_sender_wrote_them() -> None:
    raw = [(b"x-name", b"Z\xfcrich"), (b"x-twice", b"first"), (b"x-twice", b"last")]

    assert intake.header_map(raw) == {"x-name": "Zürich", "x-twice": "last"}


def test_a_delivery_can_be_explained_without_being_taken() -> None:
    steps = intake.explain(GATE, JSON, intake.assess(GATE, JSON))

    assert steps == [
        Finding("token", "it fires this schedule"),
        Finding("size", "2 bytes are within the limit"),
        Finding("signature", "none is asked for"),
        Finding("payload", "read as json"),
        Finding("event type", "none given"),
        Finding("dedupe key", "key:a"),
        Finding("verdict", "would become a run of quick, unless it came before"),
    ]


ITEMS = Incoming(
    {"content-type": "application/json", "idempotency-key": "a"},
    b'[{"n":1,"id":"x"},{"n":2,"id":"y"},{"n":3,"id":"x"}]',
)


def items_of(assessment: intake.Assessment) -> list[tuple[bytes, str | None, bytes | None]]:
    return [(bytes(item.variables), item.key, item.payload) for item in assessment.items]


def test_rules_see_each_item_of_a_delivery_that_is_split() -> None:
    rules = gate(split=True, filter="body.n != 2", mapping={"n": "body.n"}, variables=msgspec.Raw(b"{}"))

    assessment = intake.assess(rules, ITEMS)

    assert (assessment.verdict, assessment.is_split, assessment.dedupe_key) == (Verdict.ACCEPTED, True, "key:a")
    assert items_of(assessment) == [
        (b'{"n":1}', None, b'{"n":1,"id":"x"}'),
        (b'{"n":3}', None, b'{"n":3,"id":"x"}'),
    ]


def test_of_items_with_the_same_key_the_first_counts() -> None:
    assessment = intake.assess(gate(split=True, dedupe="body.id"), ITEMS)

    assert [(key, payload) for _, key, payload in items_of(assessment)] == [
        ("item:x", b'{"n":1,"id":"x"}'),
        ("item:y", b'{"n":2,"id":"y"}'),
    ]


@pytest.mark.parametrize(
    ("rules", "verdict", "code", "reason"),
    [
        ({"filter": "body.n > 3"}, Verdict.FILTERED, "filter_false", "The filter is false for all 3 items."),
        (
            {"mapping": {"share": "6 / (body.n - 2)"}},
            Verdict.REJECTED,
            "mapping_failed",
            "Item 1: The mapping of 'share' has no value for this delivery: divide by zero.",
        ),
    ],
)
def test_a_split_delivery_is_turned_away_whole(
    rules: dict[str, object], verdict: Verdict, code: str, reason: str
) -> None:
    assessment = intake.assess(gate(split=True, **rules), ITEMS)

    assert (assessment.verdict, assessment.reason_code, assessment.reason) == (verdict, code, reason)
    assert (assessment.items, assessment.dedupe_key) == ((), None)


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("generic", b"[" + b"0," * intake.MOST_ITEMS + b"0]"),
        ("generic", b'["' + b"x" * 9_000_000 + b'",' * 1 + b",".join([b'"' + b"y" * 9_000_000 + b'"'] * 3) + b"]"),
        ("meta", b'{"object":"page","more":"' + b"x" * 100_000 + b'","entry":[' + b"0," * 400 + b"0]}"),
    ],
    ids=["too many", "too large", "large by what stands around them"],
)
def test_a_delivery_of_more_items_than_can_be_written_is_rejected(source: str, body: bytes) -> None:
    observing = SourceConfig(mode=VerificationMode.OBSERVE)

    assessment = intake.assess(gate(source=source, source_config=observing, split=True), Incoming({}, body))

    assert (assessment.verdict, assessment.reason_code) == (Verdict.REJECTED, "too_many_items")
    assert (assessment.items, assessment.dedupe_key) == ((), None)


def test_as_many_items_as_are_allowed_are_planned() -> None:
    body = b"[" + b"0," * (intake.MOST_ITEMS - 1) + b"0]"

    assert len(intake.assess(gate(split=True), Incoming({}, body)).items) == intake.MOST_ITEMS


def test_an_event_type_that_is_longer_than_any_is_cut() -> None:
    stripe = gate(source="stripe", source_config=SourceConfig(mode=VerificationMode.OBSERVE))

    assessment = intake.assess(stripe, Incoming({}, b'{"type": "' + b"x" * 100_000 + b'"}'))

    assert assessment.facts.event_type == "x" * 250


def test_an_explanation_says_that_a_proof_without_secrets_was_verified() -> None:
    request = read_request(SOURCES / "discord" / "authorized.http")
    discord = gate(source="discord", source_config=read_config("discord"))

    steps = {step.step: step.finding for step in intake.explain(discord, request, intake.assess(discord, request))}

    assert steps["signature"] == "verified as source discord"


def test_an_explanation_goes_over_the_items() -> None:
    rules = gate(split=True, filter="body.n != 2")

    findings = {finding.step: finding.finding for finding in intake.explain(rules, ITEMS, intake.assess(rules, ITEMS))}

    assert (findings["item 0: filter"], findings["item 1: filter"], findings["item 2: filter"]) == (
        "true",
        "false",
        "true",
    )
    assert findings["verdict"] == "would become 2 runs of quick, unless it came before"


def test_a_delivery_of_very_many_items_cannot_hold_up_the_others() -> None:
    rules = gate(split=True, filter="body > 0")
    incoming = Incoming({"content-type": "application/json"}, b"[" + b"1," * 99_999 + b"1]")

    assessment = intake.assess(rules, incoming)

    assert assessment.reason == (
        "Item 5000: The filter has no value for this delivery: it could take too long for a delivery of this size."
    )


def test_rules_do_not_ask_handshakes() -> None:
    ping = read_request(SOURCES / "github" / "ping.http")
    github = gate(source="github", source_config=read_config("github"), filter="body.missing")

    assert intake.assess(github, ping).verdict is Verdict.HANDSHAKE
