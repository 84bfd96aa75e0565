"""Tools that a manifest declares with a JSON Schema of their arguments: scripts, and those of clients."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from pydantic import JsonValue
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.tools import Tool

from agent_runner.toolsets.argument_schemas import problems_with


class Declaration(Protocol):
    """What a manifest says of such a tool."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, JsonValue]: ...


def declared_tool(
    declaration: Declaration, run: Callable[..., Awaitable[Any]], check: Callable[..., None]
) -> Tool[None]:
    """The tool. `check` and `run` are given the call's context and its arguments by name."""
    return Tool[None].from_schema(
        run,
        name=declaration.name,
        description=declaration.description,
        json_schema=dict(declaration.parameters),
        takes_ctx=True,
        args_validator=check,
    )


def check_arguments(declaration: Declaration, arguments: Mapping[str, Any]) -> None:
    """See that the schema allows the arguments, before anybody is asked and anything is started.

    Raises:
        ModelRetry: it does not; says why.
    """
    problems = problems_with(arguments, declaration.parameters)
    if problems:
        raise ModelRetry(f"The arguments do not fit: {'; '.join(problems)}")
