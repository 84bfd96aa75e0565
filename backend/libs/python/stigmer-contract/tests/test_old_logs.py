"""Logs of older versions, as they were recorded, read in today's words."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from stigmer_contract import events
from stigmer_contract.conversation import (
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    FileContent,
    ModelAnswer,
    TextContent,
    ToolOutcome,
    ToolResult,
)
from stigmer_contract.old_logs import PAYLOADS_OF_FORMAT_1, newest_event, newest_value

LOG: Final = json.loads((Path(__file__).parent / "logs" / "0.1.0.json").read_text(encoding="utf-8"))
"""Rows of the tables of a session of two executions: pictures, errors, a killed runner."""


def bodies() -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in LOG["events"]]


def newest(body: dict[str, Any]) -> dict[str, Any]:
    field = PAYLOADS_OF_FORMAT_1.get(body["type"])
    if field is None:
        return body
    payload = body[field]
    value = payload["value"] if payload["kind"] == "inline" else json.loads(LOG["blobs"][payload["sha256"]])
    translated = newest_value(body, value)
    return newest_event(body, {"kind": "inline", "value": translated}, translated)


def test_every_event_of_version_0_1_0_is_read_in_the_newest_words() -> None:
    for body in bodies():
        event = newest(body)
        if event["type"] == "usage.updated":
            continue
        read = events.EVENT_ADAPTER.validate_python(event)
        assert read.type == body["type"]


def test_answers_of_version_0_1_0_say_what_they_said() -> None:
    answers = [
        ModelAnswer.model_validate(newest(body)["response"]["value"])
        for body in bodies()
        if body["type"] == "model.responded"
    ]

    assert answers[0].parts == [
        AnswerThinking(text="Hm."),
        AnswerText(text="I look."),
        AnswerToolCall(call_id="call_default_1_1", tool="read_file", arguments={"path": "a.txt"}),
        AnswerToolCall(
            call_id="call_default_1_2", tool="run_command", arguments={"command": "echo ü; exit 3"}
        ),
    ]
    assert (answers[0].provider, answers[0].finish_reason) == ("openai", "stop")
    assert [answer.text for answer in answers[-2:]] == ["All is done.", "All is done."]


def test_results_of_version_0_1_0_say_what_the_model_was_told() -> None:
    finished = [newest(body) for body in bodies() if body["type"] == "tool.finished"]
    results = [ToolResult.model_validate(event["result"]["value"]) for event in finished]

    assert [event["outcome"] for event in finished] == [result.outcome for result in results]
    assert results[1].text == "[stdout]\nü\n\n[exit code: 3]"
    assert results[3].text.count("é") == 33_000
    picture = results[4].content[1]
    assert isinstance(picture, FileContent)
    assert (picture.media_type, picture.data[:11]) == ("image/png", "iVBORw0KGgo")
    assert results[5].outcome is ToolOutcome.UNKNOWN
    assert results[5].text.startswith("Outcome unknown")


@pytest.mark.parametrize(
    ("value", "outcome", "text"),
    [
        ({"kind": "model_retry", "message": "no such path"}, ToolOutcome.FAILED, "no such path"),
        (
            {
                "kind": "validation_error",
                "title": "look",
                "errors": [{"type": "missing", "loc": ["path"], "msg": "Field required", "input": "x"}],
            },
            ToolOutcome.INVALID,
            '[{"type":"missing","loc":["path"],"msg":"Field required","input":"x"}]',
        ),
    ],
)
def test_what_was_to_be_corrected_is_told_apart(value: Any, outcome: ToolOutcome, text: str) -> None:
    event = {"type": "tool.finished", "turn": 1, "call_id": "c", "tool": "look", "outcome": "retry"}

    translated = newest_value({**event, "result": {"kind": "inline", "value": value}}, value)
    result = ToolResult.model_validate(translated)

    assert (result.outcome, result.correctable, result.text) == (outcome, True, text)
    assert newest_event({**event}, None, translated)["outcome"] == outcome


def test_a_result_is_what_a_reader_makes_of_it() -> None:
    picture = FileContent(media_type="image/png", data="YWJj", name="logo")
    result = ToolResult(outcome=ToolOutcome.SUCCEEDED, content=[TextContent(text="Here:"), picture])

    assert ToolResult.model_validate_json(json.dumps(result.to_json())) == result
    assert result.text == "Here:\n[image/png]"
    assert result.to_json() == {
        "version": 1,
        "outcome": "succeeded",
        "content": [
            {"kind": "text", "text": "Here:"},
            {"kind": "file", "media_type": "image/png", "data": "YWJj", "name": "logo"},
        ],
    }
