"""Lets a scripted model call the built-in tools, and tells what it was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.durable_exec import BaseDurabilityCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_runner.toolsets import session_tools
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.manifest import AgentSpec


@dataclass(frozen=True)
class Result:
    """What the model is told of one call."""

    outcome: str
    """`success`, `failed`, or `retried`: told what to do better."""
    content: str
    metadata: object = None


def spec_of(**fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"instructions": "Work.", "tools": ["shell", "files"], **fields})


async def call_tools(
    workspace: SessionWorkspace,
    *calls: tuple[str, Mapping[str, object]],
    spec: AgentSpec | None = None,
    variables: ToolVariables | None = None,
    packs: PackFolders | None = None,
    durability: "list[BaseDurabilityCapability[None]] | None" = None,
) -> list[Result]:
    """Let a model make these calls, one after the other, and return what it was told."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if turn == len(calls):
            return ModelResponse(parts=[TextPart("done")])
        name, arguments = calls[turn]
        return ModelResponse(parts=[ToolCallPart(name, dict(arguments), tool_call_id=f"call-{turn}")])

    agent = Agent(
        FunctionModel(model, model_name="script"),
        name="test",
        deps_type=type(None),
        retries={"tools": 10},
        capabilities=[session_tools(spec or spec_of(), workspace, variables, packs), *(durability or [])],
    )
    run = await agent.run("go")
    results: list[Result] = []
    for message in run.all_messages():
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                results.append(Result(part.outcome, str(part.content), part.metadata))
    return results
