"""Agents with more tools than they are shown: what is hidden, how it is found, and what a later leg knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart

from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.toolsets.tool_search import OfferedTools, toolsets_that_fit
from leg_server import Answer, Scripted, Server
from mcp_legs import calls, plain, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import StepFinished, ToolFinished, ToolStarted
from stigmer_contract.temporal import LegOutcome
from stigmer_contract.tool_lists import ListedTool, ToolList

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
SEARCH = ("search_tools", {"queries": ["add two numbers"]})
ADD = ("plain__add", {"a": 2, "b": 3})


def crowd(server: str, count: int) -> ToolList:
    """So many tools that are no use, of a server that is never started."""
    schema: dict[str, Any] = {"type": "object", "properties": {"invoice": {"type": "string"}}}
    tools = [
        ListedTool(name=f"book_{n}", description=f"Books invoice kind {n}. " * 5, input_schema=schema)
        for n in range(count)
    ]
    return ToolList(server=server, tools=tools)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the tools of each request, as the model has them in its prompt."""
    requests = list[list[str]]()
    answer = Scripted.answer

    async def answer_and_note(
        self: Scripted, messages: Any, settings: Any, parameters: Any, watcher: Any
    ) -> Any:
        _, prepared = self.prepare_request(settings, parameters)
        requests.append([tool.name for tool in prepared.declared_function_tools])
        return await answer(self, messages, settings, parameters, watcher)

    monkeypatch.setattr(Scripted, "answer", answer_and_note)
    return requests


def crowded(*, count: int = 60, **fields: Any) -> Server:
    context: dict[str, Any] = fields.pop("context", {"window": 20_000, "toolSearchAt": 0})
    server = Server(mcpServers=[plain(), plain("crowd")], context=context, **fields)
    server.pins["crowd"] = crowd("crowd", count)
    return server


async def test_a_hidden_tool_is_found_by_words_and_called(
    make_runner: Make, workspace: Path, shown: list[list[str]]
) -> None:
    server = crowded()
    await make_runner(server, calls(SEARCH, ADD)).run("exe_1", TRY)
    found, added = results(server)
    assert json.loads(found.text)["discovered_tools"][0] == {"name": "plain__add"}
    assert added.text == "5"
    assert shown[0] == ["search_tools"]
    assert "plain__add" in shown[1] and "crowd__book_0" not in shown[1]
    assert shown[2] == shown[1]
    started = [event for event in server.events if isinstance(event, ToolStarted)]
    assert [(each.toolset, each.side_effects) for each in started] == [
        ("tool_search", False),
        ("plain", True),
    ]


async def test_a_tool_that_was_not_found_yet_is_not_carried_out(make_runner: Make, workspace: Path) -> None:
    server = crowded()
    await make_runner(server, calls(ADD, SEARCH, ADD)).run("exe_1", TRY)
    refused, _, added = results(server)
    assert "search for it first" in refused.text
    assert added.text == "5"
    assert (workspace / "plain.journal").read_text(encoding="utf-8").splitlines().count("add") == 1


async def test_a_search_without_a_match_says_so_and_one_without_words_is_corrected(
    make_runner: Make, workspace: Path
) -> None:
    server = crowded()
    nothing, blank = ("search_tools", {"queries": ["zebra"]}), ("search_tools", {"queries": [" "]})
    await make_runner(server, calls(nothing, blank)).run("exe_1", TRY)
    none, asked_again = results(server)
    assert json.loads(none.text)["discovered_tools"] == []
    assert "No tool fits" in none.text
    assert asked_again.outcome is ToolOutcome.FAILED
    assert asked_again.correctable


@pytest.mark.parametrize(
    ("context", "search"),
    [
        ({"window": 20_000}, True),
        ({"window": 20_000, "toolSearchAt": 1}, False),
        ({"window": 10_000_000}, False),
        ({"window": 20_000, "toolSearchAt": 0}, True),
    ],
)
async def test_tools_are_hidden_beyond_their_share_of_the_window(
    make_runner: Make, workspace: Path, shown: list[list[str]], context: dict[str, Any], *, search: bool
) -> None:
    server = crowded(context=context)
    await make_runner(server, calls()).run("exe_1", TRY)
    [tools] = shown
    assert ("search_tools" in tools) is search
    assert ("crowd__book_0" in tools) is not search
    chosen = [e for e in server.events if isinstance(e, StepFinished) and e.key == "tool_search/chosen"]
    assert bool(chosen) is search


async def test_a_small_toolset_is_shown_beside_a_large_one_that_is_searched(
    make_runner: Make, workspace: Path, shown: list[list[str]]
) -> None:
    server = crowded(context={"window": 20_000})
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    assert {"search_tools", "plain__add"} <= set(shown[0])
    assert results(server)[0].text == "5"


async def test_a_leg_that_goes_on_plays_the_search_and_knows_what_it_found(
    make_runner: Make, workspace: Path, shown: list[list[str]]
) -> None:
    server = crowded()

    def die_before_adding(messages: list[ModelMessage]) -> ModelResponse:
        if any(isinstance(part, ToolCallPart) for message in messages for part in message.parts):
            raise RuntimeError("the runner dies here")
        return ModelResponse(parts=[ToolCallPart(*SEARCH, "c0")])

    await make_runner(server, die_before_adding).run("exe_1", TRY)
    # As after a kill: nothing of how the leg ended is in the log.
    last = max(n for n, event in enumerate(server.events) if isinstance(event, ToolFinished))
    del server.log[last + 1 :]
    # What is chosen holds, whatever this runner would choose.
    server.spec = server.spec.model_copy(
        update={"context": server.spec.context.model_copy(update={"tool_search_at": 0.9})}
    )
    shown.clear()
    ended = await make_runner(server, calls(SEARCH, ADD)).run("exe_1", TRY)
    assert ended.outcome is LegOutcome.ENDED
    assert [result.text for result in results(server)][1:] == ["5"]
    assert "plain__add" in shown[0] and "crowd__book_0" not in shown[0]
    searches = [e for e in server.events if isinstance(e, ToolStarted) and e.tool == "search_tools"]
    assert len(searches) <= 1


def test_the_smallest_toolsets_are_shown_whole_as_far_as_they_fit() -> None:
    offered = [OfferedTools("large", 90, 9000), OfferedTools("small", 2, 100), OfferedTools("other", 5, 400)]
    assert toolsets_that_fit(500, offered, 1000) == {"small", "other"}
    assert toolsets_that_fit(500, offered, 999) == {"small"}
    assert toolsets_that_fit(2000, offered, 1000) == frozenset()
