"""A final answer that is an object: how a model is told its form, and what becomes of one that has another.

A model that has structured output of its own is asked for that; any other one is given a tool to answer
with, and may as well write the object as text. pydantic-ai's own way (`StructuredDict`, 2.68) holds nobody to
a schema and takes none that refers to itself; so it is told of an object, and each request gets the schema as
it is written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from pydantic import JsonValue
from pydantic_ai import ModelRetry, NativeOutput, RunContext, StructuredDict, TextOutput, ToolOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.tools import ToolDefinition

from agent_runner.models.answer_schemas import find_problems

MAX_CORRECTIONS: Final = 4
"""How often in a row a model may answer with what the schema does not accept."""
ANSWER_TOOL: Final = "final_result"


@dataclass
class StructuredAnswers(AbstractCapability[None]):
    """The form of one agent's answers."""

    schema: Mapping[str, JsonValue]
    """As the manifest gives it."""

    def output_type(self, model: Model) -> Any:
        """pydantic-ai's `output_type`."""
        form = StructuredDict({"type": "object", "properties": {}})
        if model.profile.get("supports_json_schema_output", False):
            return NativeOutput(form, name=ANSWER_TOOL)
        return [
            ToolOutput(form, name=ANSWER_TOOL, description=self._description),
            TextOutput(self._from_text),
        ]

    @property
    def _description(self) -> str:
        own = self.schema.get("description")
        told = "Give your final answer, when the task is done. It ends your work."
        return f"{told} {own}" if isinstance(own, str) else told

    async def prepare_output_tools(
        self, ctx: RunContext[None], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        """The tool to answer with, with the manifest's schema."""
        return [replace(tool, parameters_json_schema=dict(self.schema)) for tool in tool_defs]

    async def before_model_request(
        self, ctx: RunContext[None], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """The request with the manifest's schema, where the model has structured output of its own."""
        parameters = request_context.model_request_parameters
        if parameters.output_object is not None:
            form = replace(parameters.output_object, json_schema=dict(self.schema))
            request_context.model_request_parameters = replace(parameters, output_object=form)
        return request_context

    def _from_text(self, text: str) -> dict[str, Any]:
        """The object that a text is.

        Raises:
            ModelRetry: it is none.
        """
        try:
            answer = json.loads(_without_fence(text), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ModelRetry(
                f"Give your final answer with the tool {ANSWER_TOOL}, or as one JSON object alone."
            )
        return cast("dict[str, Any]", answer)

    def check(self, context: RunContext[None], output: Any) -> Any:
        """The answer, where the schema accepts it.

        Raises:
            ModelRetry: it does not; the model is told why.
        """
        problems = find_problems(self.schema, output)
        if not problems:
            return output
        last = next(message for message in reversed(context.messages) if isinstance(message, ModelResponse))
        cut = (
            " It was cut off by the limit of tokens for one answer." if last.finish_reason == "length" else ""
        )
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ModelRetry(f"The schema does not accept your final answer.{cut} Correct it:\n{listed}")


def _without_fence(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped.partition("\n")[2].removesuffix("```")
    return stripped


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
