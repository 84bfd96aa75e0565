"""Final answers that are objects: what the schema accepts, how a model is told, and replay."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile

from agent_runner.legs import ActivityAttempt
from agent_runner.models import MAX_CORRECTIONS, StructuredAnswers
from agent_runner.models.answer_schemas import find_problems
from leg_server import Answer, Server, leg_runner
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionCompleted, ExecutionFailed, InlinePayload, ModelResponded
from stigmer_isolation.launcher import CommandLauncher

TREE: dict[str, Any] = {
    "type": "object",
    "description": "A tree.",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "size": {"type": "integer", "minimum": 1},
        "inner": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
DOUBLED: dict[str, Any] = {
    "a40": {},
    **{f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(40)},
}
GOOD: dict[str, Any] = {"name": "a", "inner": [{"name": "b", "size": 2}]}


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.mark.parametrize(
    ("answer", "problems"),
    [
        (GOOD, []),
        ({}, ["$: 'name' is a required property"]),
        ({"name": "A"}, ["$.name: 'A' does not match '^[a-z]+$'"]),
        ({"name": "a", "size": "1"}, ["$.size: '1' is not of type 'integer'"]),
        ({"name": "a", "inner": [{"size": 0}]},
         ["$.inner[0].size: 0 is less than the minimum of 1", "$.inner[0]: 'name' is a required property"]),
        ({"name": "a", "more": 1}, ["$: 'more' is not a property of it"]),
        ([], ["$: [] is not of type 'object'"]),
        ({"name": "a", "size": float("nan")},
         ["it holds NaN or Infinity, which JSON has no number for, or is nested too deep"]),
        ({"name": "a" * 1_048_576}, ["it has 1048588 bytes as JSON, and may have 1048576"]),
    ],
)  # fmt: skip
def test_an_answer_is_held_to_the_schema_as_it_is_written(answer: JsonValue, problems: list[str]) -> None:
    assert sorted(find_problems(TREE, answer)) == sorted(problems)


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"$ref": "#"}, {}),
        ({"$ref": "https://example.com/schema"}, {}),
        ({"$ref": "#/$defs/a0", "$defs": DOUBLED}, {}),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, {"a": "x"}),
        ({"properties": {"a": {"multipleOf": 1e-300}}}, {"a": 10**400}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1.0]}),
        ({"patternProperties": {"^x": False}}, {"xy": 1}),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_not_accepted(schema: dict[str, JsonValue], answer: JsonValue) -> None:
    assert find_problems(schema, answer) != []


def test_patterns_take_time_in_proportion_to_the_text() -> None:
    schema: dict[str, JsonValue] = {
        "properties": {"a": {"pattern": "^(a+)+$"}},
        "patternProperties": {"^(b+)+$": False},
        "additionalProperties": {"type": "string"},
    }

    assert find_problems(schema, {"a": "a" * 100_000, "b" * 50_000 + "c": "x"}) == []
    assert find_problems(schema, {"a": "a" * 100_000 + "b"}) != []


def call(arguments: Any) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart("final_result", arguments)])


def say(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def script(*answers: ModelResponse) -> Answer:
    """The answers in order; which one is next, the conversation says, so that a replay goes on with it."""

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        return answers[sum(isinstance(message, ModelResponse) for message in messages)]

    return answer


async def run(launcher: CommandLauncher, root: Path, server: Server, answer: Answer) -> None:
    await leg_runner(server, answer, launcher, root).run("exe_1", ActivityAttempt(f"t{server.attempt}", b"t"))


@pytest.mark.parametrize(
    "answers",
    [
        [call(GOOD)],
        [say('{"name": "a", "inner": [{"name": "b", "size": 2}]}')],
        [say('```json\n{"name": "a", "inner": [{"name": "b", "size": 2}]}\n```')],
        [call({"name": "A"}), call(GOOD)],
        [say("It is a tree."), say('{"name": 1}'), call({"name": "a", "more": 1}), call(GOOD)],
    ],
)
async def test_the_answer_is_the_object_that_the_schema_accepts(
    answers: list[ModelResponse], launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = Server(output={"schema": TREE})
    await run(launcher, tmp_path, server, script(*answers))

    assert server.events[-1] == ExecutionCompleted(output=InlinePayload(value=GOOD))
    assert sum(isinstance(event, ModelResponded) for event in server.events) == len(answers)


async def test_a_model_is_told_what_is_wrong_and_gives_up_at_the_limit(
    launcher: CommandLauncher, tmp_path: Path
) -> None:
    told = list[str]()

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        told.extend(str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart))
        return call({"name": "A"})

    server = Server(output={"schema": TREE})
    await run(launcher, tmp_path, server, answer)

    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert failed.code is ErrorCode.AGENT_MISBEHAVED
    assert (
        failed.message
        == f"the model answered {MAX_CORRECTIONS + 1} times with nothing that the schema accepts"
    )
    assert len(told) == MAX_CORRECTIONS
    assert "- $.name: 'A' does not match '^[a-z]+$'" in told[0]


async def test_wherever_a_runner_is_killed_the_next_one_comes_to_the_same_answer(
    launcher: CommandLauncher, tmp_path: Path
) -> None:
    answer = script(say("A tree."), call({"name": "A"}), call(GOOD))
    whole = Server(output={"schema": TREE})
    await run(launcher, tmp_path, whole, answer)
    for length in range(1, len(whole.log) - 1):
        server = Server(output={"schema": TREE})
        server.log = whole.log[:length]
        server.attempt = 1

        await run(launcher, tmp_path, server, answer)

        assert server.events[-1] == ExecutionCompleted(output=InlinePayload(value=GOOD)), length
        assert sum(isinstance(event, ModelResponded) for event in server.events) == 3


@pytest.mark.parametrize("is_native", [True, False])
async def test_a_model_is_sent_the_schema_as_it_is_written(is_native: bool) -> None:
    from pydantic_ai import Agent

    sent = list[ModelRequestParameters]()

    def answer(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sent.append(info.model_request_parameters)
        return say('{"name": "a"}')

    model = FunctionModel(answer, profile=ModelProfile(supports_json_schema_output=is_native))
    form = StructuredAnswers(TREE)
    agent = Agent[None, Any](
        model, deps_type=type(None), output_type=form.output_type(model), capabilities=[form]
    )
    check: Callable[..., Any] = form.check
    agent.output_validator(check)

    assert (await agent.run("x")).output == {"name": "a"}
    [parameters] = sent
    if is_native:
        assert parameters.output_object is not None
        assert parameters.output_object.json_schema == TREE
        assert parameters.output_tools == []
    else:
        [tool] = parameters.output_tools
        assert tool.parameters_json_schema == TREE
        assert "A tree." in (tool.description or "")
