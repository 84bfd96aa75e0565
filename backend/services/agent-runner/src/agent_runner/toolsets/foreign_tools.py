"""Tools whose names and schemas somebody else wrote: shown in a form that every provider takes.

What a model is shown may be looser than what was written; its arguments are held to what was written.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import JsonValue
from pydantic_ai.tools import Tool
from pydantic_core import SchemaValidator, core_schema

from agent_runner.mcp_servers.argument_check import find_problems
from agent_runner.mcp_servers.shown_schemas import ShownSchema, shown_schema


def foreign_tool(
    name: str,
    description: str,
    schema: Mapping[str, JsonValue],
    call: Callable[[Mapping[str, JsonValue]], Awaitable[Any]],
) -> Tool[None]:
    """The tool. `call` is given the arguments by their own names, once they fit the schema."""
    shown = shown_schema(dict(schema))

    async def run(**arguments: Any) -> Any:
        return await call(shown.arguments(arguments))

    tool = Tool[None].from_schema(run, name, description or None, shown.schema)
    tool.function_schema.validator = _validator(schema, shown)
    return tool


def _validator(schema: Mapping[str, JsonValue], shown: ShownSchema) -> SchemaValidator:
    """Checks arguments before anything is written down or started."""

    def check(given: dict[str, Any]) -> dict[str, Any]:
        problems = find_problems(schema, shown.arguments(given))
        if problems:
            raise ValueError("; ".join(problems))
        return given

    return SchemaValidator(core_schema.no_info_after_validator_function(check, core_schema.dict_schema()))
