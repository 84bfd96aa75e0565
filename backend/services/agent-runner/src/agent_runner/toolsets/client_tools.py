"""The toolset `client`: tools that whoever is connected carries out, while the agent waits.

What a call asks for goes into the log once, like a question: it is asked again by no leg that goes on.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.toolsets.ask_user import asker
from agent_runner.toolsets.declared_tools import check_arguments, declared_tool
from stigmer_contract.inputs import InputOutcome
from stigmer_contract.manifest_client_tools import ClientTool

CLIENT_TOOLSET: Final = "client"


def client_toolset(tools: Sequence[ClientTool]) -> FunctionToolset[None]:
    """A tool for each of them."""
    toolset = FunctionToolset[None](id=CLIENT_TOOLSET)
    for tool in tools:
        handed_over = _HandedOver(tool)
        toolset.add_tool(declared_tool(tool, handed_over.run, handed_over.check))
    return toolset


class _HandedOver:
    """One client tool of an agent."""

    def __init__(self, tool: ClientTool) -> None:
        self._tool = tool

    def check(self, ctx: RunContext[None], /, **arguments: Any) -> None:
        """Refuse arguments that the tool's schema does not allow, before anybody is asked."""
        check_arguments(self._tool, arguments)

    async def run(self, ctx: RunContext[None], /, **arguments: Any) -> str:
        """Hand the call over, and return its result."""
        expires_after = self._tool.expires_after
        seconds = None if expires_after is None else expires_after.total_seconds()
        told = await asker.get().hand_over(self._tool.name, arguments, seconds)
        match told.outcome:
            case InputOutcome.ANSWERED:
                result = told.answer
                return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            case InputOutcome.DENIED:
                because = "" if told.reason is None else f": {told.reason}"
                raise ToolFailed(f"It was not carried out{because}")
            case InputOutcome.EXPIRED:
                raise ToolFailed("Nobody carried it out in time.")
            case _:
                raise ToolFailed("The call was withdrawn before anybody carried it out.")
