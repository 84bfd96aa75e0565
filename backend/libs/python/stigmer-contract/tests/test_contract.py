"""Phases, ids, durations, events and the schema: what several programs rely on."""

import functools
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stigmer_contract import events, identifiers
from stigmer_contract.artifacts import Artifact, LeftOutFile
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import InputKind, InputOutcome
from stigmer_contract.manifest import AgentSpec, Limits, Output, unsupported_fields
from stigmer_contract.manifest_approval import ApprovalRule, strictest
from stigmer_contract.manifest_parts import format_duration, parse_duration
from stigmer_contract.model_names import split_model
from stigmer_contract.phases import ExecutionPhase, is_legal_move

REPOSITORY = Path(__file__).parents[5]


def test_the_legal_moves_are_these_and_no_others() -> None:
    p = ExecutionPhase
    legal = {
        (p.PENDING, p.IN_PROGRESS),
        (p.PENDING, p.FAILED),
        (p.PENDING, p.CANCELLED),
        (p.IN_PROGRESS, p.WAITING),
        (p.IN_PROGRESS, p.COMPLETED),
        (p.IN_PROGRESS, p.FAILED),
        (p.IN_PROGRESS, p.CANCELLED),
        (p.WAITING, p.IN_PROGRESS),
        (p.WAITING, p.FAILED),
        (p.WAITING, p.CANCELLED),
        (p.FAILED, p.IN_PROGRESS),
        *((phase, phase) for phase in p),
    }

    assert {move for move in product(p, p) if is_legal_move(*move)} == legal
    assert {phase for phase in p if phase.is_terminal} == {p.COMPLETED, p.FAILED, p.CANCELLED}


def test_ids_sort_by_time_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = count(1_790_000_000_000)
    monkeypatch.setattr("time.time_ns", lambda: next(milliseconds) * 1_000_000)

    ids = [identifiers.new_id(identifiers.EXECUTION_PREFIX) for _ in range(1000)]

    assert ids == sorted(set(ids))
    assert all(len(one) == len("exe_") + 26 and one.startswith("exe_") for one in ids)


@given(st.integers(1, 3650 * 86400).map(lambda seconds: timedelta(seconds=seconds)))
def test_a_written_duration_is_read_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "1.5h", "-1h", "1h1", "1w", "0s", "0h0m", "99999d"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration(text)


def test_a_models_name_may_hold_colons() -> None:
    assert split_model("ollama:qwen3:8b") == ("ollama", "qwen3:8b")
    for wrong in ["gpt-5", "openai:", ":x", "Openai:gpt-5", "an_other:x"]:
        with pytest.raises(ValueError, match="write provider:name"):
            split_model(wrong)


def test_fields_whose_feature_does_not_exist_yet_are_named() -> None:
    spec = AgentSpec.model_validate(
        {"instructions": "x", "subAgents": ["a"], "approval": [{"tool": "shell", "policy": "ask"}]}
    )

    assert unsupported_fields(AgentSpec(instructions="x")) == []
    assert unsupported_fields(spec) == ["spec.subAgents"]
    rules = [{"tool": "shell", "policy": "ask", "remindAfter": "1h", "escalate": {"owner": "eve"}}]
    told = AgentSpec.model_validate({"instructions": "x", "approval": rules})
    assert unsupported_fields(told) == []


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"policy": "deny", "expiresAfter": "1h"}, "expiresAfter is for questions"),
        ({"policy": "allow", "escalate": {"webhook": "ops"}}, "escalate is for questions"),
        ({"policy": "ask", "onExpiry": "approve"}, "onExpiry needs expiresAfter"),
        ({"policy": "ask", "expiresAfter": "1h", "remindAfter": "2h"}, "remindAfter must be shorter"),
        ({"policy": "ask", "escalate": {}}, "exactly one of webhook and owner"),
        ({"policy": "ask", "when": " "}, "must not be empty"),
        ({"policy": "ask", "when": "a\nb"}, "must be one line"),
        ({"policy": "never"}, "should be 'ask', 'allow' or 'deny'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ApprovalRule.model_validate({"tool": "shell", **rule})


def test_the_strictest_of_several_policies_lets_least_through() -> None:
    assert strictest() == strictest(None) == strictest("allow") == "allow"
    assert strictest("allow", None, "ask") == "ask"
    assert strictest("ask", "deny", "allow") == "deny"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "array"}, "must be a JSON Schema of an object"),
        (
            {"type": "object", "properties": {"a": {"type": "strng"}}},
            "properties.a.type: 'strng' is not valid",
        ),
        ({"type": "object", "required": "a"}, "required: 'a' is not of type 'array'"),
        ({"type": "object", "$ref": "https://example.com/x"}, r"\$ref: 'https://example.com/x' leads out"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "there is nothing at '#/"),
        (
            {"type": "object", "properties": {"a": {"pattern": "(?=a)"}}},
            "properties.a.pattern: .* looks around",
        ),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "is no regular expression"),
        ({"type": "object", "enum": list(range(6000))}, "more than 5000 parts"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-04/schema#"}, r"\$schema: must be"),
        (functools.reduce(lambda inner, _: {"not": inner}, range(40), {"type": "object"}), "32 deep"),
    ],
)
def test_a_schema_that_answers_cannot_be_held_to_is_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Output.model_validate({"schema": schema})


def test_a_schema_may_refer_to_itself() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "$defs": {"node": {"$anchor": "node", "properties": {"next": {"$ref": "#node"}}}},
        "properties": {"first": {"$ref": "#/$defs/node"}, "all": {"items": {"$ref": "#"}}},
    }

    assert Output.model_validate({"schema": schema}).schema_ == schema


def test_usage_adds_up_and_keeps_a_cost_that_is_known_on_one_side() -> None:
    known = events.Usage(requests=1, input_tokens=10, output_tokens=1, cost_usd=Decimal("0.1"))
    unknown = events.Usage(requests=2, input_tokens=5, output_tokens=2, cache_read_tokens=4)

    assert known + unknown == events.Usage(
        requests=3, input_tokens=15, output_tokens=3, cache_read_tokens=4, cost_usd=Decimal("0.1")
    )
    assert (unknown + unknown).cost_usd is None
    assert known.total_tokens == 11


PAYLOAD = events.InlinePayload(value={"a": [1, "ü\n", None, 1.5]})
BLOB = events.BlobPayload(sha256="a" * 64, size_bytes=70_000)
EVENTS: list[events.Event] = [
    events.ExecutionStarted(
        session_id="ses_1", agent_name="a", spec=AgentSpec(instructions="x"), input=PAYLOAD
    ),
    events.LegStarted(attempt=1, runner="1@host", runner_version="0.1"),
    events.LegEnded(attempt=1, reason=events.LegEndReason.DRAINED),
    events.LegLost(attempt=1, runner="1@host", cause=next(iter(events.LegLossCause))),
    events.EnvironmentDescribed(
        text="Where you work.", workspace="/w", time_zone="UTC", tools=["shell"], network="none"
    ),
    events.HistoryRepaired(turn=2, message="thinking was left out"),
    events.HistoryStored(turn=1, messages=PAYLOAD, replaces=True, usage=events.Usage(requests=1)),
    events.ModelResponded(
        turn=1, model="openai:gpt-5", response=BLOB, usage=events.Usage(requests=1), duration_seconds=0.1
    ),
    events.ExecutionPaused(paused_by="me", reason="lunch"),
    events.ExecutionResumed(resumed_by="me"),
    events.InputReminded(input_id="inp_1", escalated_to="eve"),
    events.GrantRevoked(input_id="inp_1", revoked_by="me", origin="127.0.0.1"),
    events.ModelInterrupted(turn=1, model="openai:gpt-5", text=PAYLOAD, usage=events.Usage(requests=1)),
    events.ModelFailed(
        turn=1,
        model="openai:gpt-5",
        message="503",
        failures=2,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        next_try_at=datetime(2026, 1, 2, tzinfo=UTC),
    ),
    events.ToolStarted(turn=1, call_id="c", tool="shell", arguments=PAYLOAD, side_effects=True),
    events.ToolFinished(
        turn=1,
        call_id="c",
        tool="shell",
        outcome=events.ToolOutcome.UNKNOWN,
        result=PAYLOAD,
        duration_seconds=0,
    ),
    events.StepFinished(
        kind="operation", key="summary.summarize", result=PAYLOAD, usage=events.Usage(requests=1)
    ),
    events.RequestChanged(turn=2, changed=["tools"]),
    events.InputRequested(
        input_id=new_id(INPUT_PREFIX),
        kind=InputKind.QUESTION,
        turn=1,
        call_id="c",
        tool="ask_user",
        title="Which one?",
        content=PAYLOAD,
        answer_schema={"type": "string"},
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    events.InputResolved(
        input_id=new_id(INPUT_PREFIX), outcome=InputOutcome.ANSWERED, resolved_by="me", answer=PAYLOAD
    ),
    events.MessageReceived(message=PAYLOAD),
    events.ExecutionRetried(limits=Limits(turns=7)),
    events.ToolsChanged(server="s", digest="0" * 32, added=["a"], removed=["b"], changed=["c"], refused=True),
    events.WorkspaceWarned(files=[".git/hooks/pre-commit"], moved_aside=[".envrc"], further=3),
    events.ArtifactsCollected(
        files=[Artifact(path="out/a.csv", sha256="0" * 64, size_bytes=3, masked=True)],
        left_out=[LeftOutFile(path="b", reason="it is no regular file")],
        unmatched=["report.md"],
    ),
    events.SnapshotTaken(
        turn=1,
        call_id="c",
        listing=events.BlobPayload(sha256="0" * 64, size_bytes=1),
        contents=[events.BlobPayload(sha256="1" * 64, size_bytes=2)],
        entries=3,
        size_bytes=4,
        changed=5,
        left_out=["pipe: it is a pipe"],
        duration_seconds=0.5,
    ),
    events.SnapshotSkipped(reason="r"),
    events.ExecutionCompleted(output=PAYLOAD),
    events.ExecutionFailed(code=ErrorCode.LIMIT_TURNS, message="m", hint="h"),
    events.ExecutionCancelled(reason="r"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_event_survives_the_log(event: events.Event) -> None:
    recorded = events.RecordedEvent(
        sequence=7, recorded_at=datetime(2026, 1, 1, tzinfo=UTC), attempt=1, event=event
    )

    assert events.RecordedEvent.model_validate_json(recorded.model_dump_json()) == recorded
    assert events.EVENT_ADAPTER.validate_json(event.model_dump_json()) == event


def test_every_kind_of_event_is_tested() -> None:
    union, _discriminator = get_args(events.Event)

    assert {type(event) for event in EVENTS} == set(get_args(union))


@pytest.mark.parametrize(
    "event",
    [
        events.ModelDelta(turn=1, text="ü"),
        events.ModelPartial(turn=1, text=""),
        events.ToolOutput(call_id="c", stream="stderr", text="\n"),
    ],
    ids=lambda event: event.type,
)
def test_a_live_event_survives_the_wire(event: events.LiveEvent) -> None:
    assert events.LIVE_EVENT_ADAPTER.validate_json(event.model_dump_json()) == event


def test_a_reader_passes_over_events_and_fields_that_it_does_not_know() -> None:
    place = {"sequence": 7, "recorded_at": "2026-01-01T00:00:00Z", "attempt": 1, "more": True}

    later = events.RecordedEvent.model_validate({**place, "event": {"type": "a.b", "c": [1]}})
    richer = events.RecordedEvent.model_validate(
        {**place, "event": {"type": "leg.ended", "attempt": 1, "reason": "drained", "more": {}}}
    )
    other = events.RecordedEvent.model_validate(
        {**place, "event": {"type": "leg.ended", "attempt": 1, "reason": "a reason of tomorrow"}}
    )

    assert isinstance(later.event, events.UnknownEvent)
    assert later.event.model_dump() == {"type": "a.b", "c": [1]}
    assert richer.event == events.LegEnded(attempt=1, reason=events.LegEndReason.DRAINED)
    assert other.event.model_dump()["reason"] == "a reason of tomorrow"


def test_a_writer_may_not_write_an_unknown_event() -> None:
    with pytest.raises(ValidationError):
        events.EVENT_ADAPTER.validate_python({"type": "execution.exploded"})
    with pytest.raises(ValidationError):
        events.EVENT_ADAPTER.validate_python({"type": "leg.ended", "attempt": 1, "reason": "x", "more": 1})


def test_the_committed_schema_is_up_to_date() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "stigmer_contract.schema", "--check", "docs/reference/agent.schema.json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_outdated_schema_is_told(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")

    checked = subprocess.run(
        [sys.executable, "-m", "stigmer_contract.schema", "--check", "old.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )

    assert checked.returncode == 1
    assert checked.stderr == "error: old.json is outdated\n\nhint: run `make schema`\n"


def test_long_texts_of_a_manifest_are_read_in_one_pass() -> None:
    """Each took time with the square of its length: seconds to hours, in the server's event loop."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration("1" * 10_000_000)
    many = [f"agent-{number}" for number in range(200_000)]
    spec = AgentSpec.model_validate({"instructions": "Work.", "subAgents": many})
    assert spec.sub_agents is not None and len(spec.sub_agents) == len(many)
    with pytest.raises(ValueError, match="twice"):
        AgentSpec.model_validate({"instructions": "Work.", "subAgents": [*many, "agent-7"]})
