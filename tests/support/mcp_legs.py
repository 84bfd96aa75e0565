"""Legs of agents that have MCP servers, in the test's own process, and what came of them."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart

from leg_server import Answer, Server
from stigmer_contract.conversation import ToolResult
from stigmer_contract.events import ExecutionCompleted, InlinePayload, ToolFinished
from stigmer_contract.tool_lists import ToolList

STAND_INS = Path(__file__).parent / "mcp_stand_ins"


def plain(name: str = "plain", **fields: Any) -> dict[str, Any]:
    """The manifest of a server whose program is in the workspace, as `server.py`."""
    return {"name": name, "command": [sys.executable, "server.py", f"{name}.journal"], **fields}


def calls(*asked: tuple[str, Mapping[str, object]]) -> Answer:
    """One call after the other, each in an answer of its own, and then the end."""

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if turn == len(asked):
            return ModelResponse(parts=[TextPart("done")])
        name, arguments = asked[turn]
        return ModelResponse(parts=[ToolCallPart(name, dict(arguments), f"c{turn}")])

    return answer


def results(server: Server) -> list[ToolResult]:
    """Of all calls, in order; the execution is done."""
    assert isinstance(server.events[-1], ExecutionCompleted), server.events[-1]
    return [
        ToolResult.model_validate(inline(event.result))
        for event in server.events
        if isinstance(event, ToolFinished)
    ]


async def refuse_none(listed: ToolList) -> frozenset[str]:
    """What takes in a server's list where nothing is held against it."""
    return frozenset()


def inline(payload: object) -> Any:
    """The value of a payload that stands in the log itself."""
    assert isinstance(payload, InlinePayload)
    return payload.value


def own_processes() -> list[str]:
    """The command lines of all that this process started, and what these did."""
    found = list[str]()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(process.cmdline()))
    return found
