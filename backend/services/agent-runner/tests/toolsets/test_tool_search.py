"""The search for tools by itself: what comes first, its catalogue, and what providers are told."""

import json
from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolSearchCallPart,
    ToolSearchReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from agent_runner.journal.context_size import ContextSize
from agent_runner.models.anthropic_models import anthropic_model
from agent_runner.models.asking import AsksDirectly, Endpoint
from agent_runner.models.openai_models import compatible_model, openai_model
from agent_runner.toolsets.tool_index import IndexedTool, ToolIndex, words_of
from agent_runner.toolsets.tool_search import CATALOGUE_CHARACTERS, catalogue_of

ENDPOINT = Endpoint("http://localhost/v1", {}, httpx2.AsyncClient(verify=False))  # asked for nothing


def indexed(name: str, description: str = "", *parameters: str) -> IndexedTool:
    return IndexedTool(name, name.partition("__")[2] or name, description, parameters)


DESK = ToolIndex(
    [
        indexed("github__create_issue", "Open a new issue in a repository.", "owner", "repo", "title"),
        indexed("github__list_issues", "List the issues of a repository.", "owner", "repo", "state"),
        indexed("github__createPullRequest", "Propose a change.", "base", "head"),
        indexed("shop__get_orders_id", "Look one order up, by its number.", "id"),
        indexed("mail__send", "Send a letter. It may speak of issues, orders, anything.", "to", "body"),
    ]
)


@pytest.mark.parametrize(
    ("queries", "first"),
    [
        (["create issue"], "github__create_issue"),
        (["creating issues"], "github__create_issue"),
        (["pull requests"], "github__createPullRequest"),
        (["order number"], "shop__get_orders_id"),
        (["send"], "mail__send"),
        (["listIssues"], "github__list_issues"),
        (["createPullRequest"], "github__createPullRequest"),
        (["github__list_issues"], "github__list_issues"),
        (["I want to write somebody a letter"], "mail__send"),
    ],
)
def test_what_was_meant_comes_first(queries: list[str], first: str) -> None:
    assert DESK.find(queries, 3)[0] == first


def test_what_was_found_before_stands_behind_what_is_new() -> None:
    assert DESK.find(["issue"], 2, last={"github__create_issue"})[0] == "github__list_issues"
    assert DESK.find(["issue"], 5, last={"github__create_issue"})[-1] == "github__create_issue"


@given(st.lists(st.text(max_size=40), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_words_find_the_same_each_time_and_never_more_than_asked(queries: list[str]) -> None:
    found = DESK.find(queries, 2)
    assert found == DESK.find(queries, 2)
    assert len(found) <= 2


def test_no_words_and_no_tools_find_nothing() -> None:
    assert DESK.find(["", "  ", "zebra"], 3) == []
    assert ToolIndex([]).find(["anything"], 3) == []


def test_words_are_taken_apart_and_lose_their_endings() -> None:
    assert words_of("listPullRequests") == words_of("list pull-request")
    assert words_of("größe Übung") == ["grösse", "übung"]


def test_the_catalogue_names_what_there_is_and_stays_small() -> None:
    tools = [ToolDefinition(name=f"operation_number_{n}") for n in range(500)]
    text = catalogue_of({"shop": tools, "mail": tools[:2]})
    assert len(text) < CATALOGUE_CHARACTERS + 200
    shop, mail = text.splitlines()
    assert shop.startswith("- shop: operation_number_0, operation_number_1,")
    assert shop.endswith(" more")
    assert mail == "- mail: operation_number_0, operation_number_1"


# --- what providers are told ------------------------------------------------------------------

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"invoice": {"type": "string"}}}


def tool(name: str, **fields: Any) -> ToolDefinition:
    return ToolDefinition(name=name, description=f"Does {name}.", parameters_json_schema=SCHEMA, **fields)


def parameters(*found: str) -> ModelRequestParameters:
    return ModelRequestParameters(
        function_tools=[
            tool("search_tools", tool_kind="tool-search"),
            tool("own"),
            *(tool(f"hidden_{n}", defer_loading=True) for n in range(3)),
        ],
        revealed_tool_names=set(found),
    )


ASKED: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("go")])]
FOUND: list[ModelMessage] = [
    *ASKED,
    ModelResponse(parts=[ToolSearchCallPart(args={"queries": ["two"]}, tool_call_id="c1")]),
    ModelRequest(
        parts=[ToolSearchReturnPart(content={"discovered_tools": [{"name": "hidden_2"}]}, tool_call_id="c1")]
    ),
]


async def bodies(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """The requests before and after the search."""
    assert isinstance(model, AsksDirectly)
    written = list[dict[str, Any]]()
    for messages, asked in ((ASKED, parameters()), (FOUND, parameters("hidden_2"))):
        prepared = model.prepare_messages(messages, asked)
        body, _ = await model.body_of(prepared, ModelSettings(), asked)
        written.append(cast("dict[str, Any]", json.loads(json.dumps(body))))
    return written[0], written[1]


async def test_anthropic_is_sent_the_same_tools_before_and_after_a_search() -> None:
    before, after = await bodies(anthropic_model("claude-sonnet-5", endpoint=ENDPOINT))
    assert before["tools"] == after["tools"]
    deferred = [each["name"] for each in after["tools"] if each.get("defer_loading")]
    assert deferred == ["hidden_0", "hidden_1", "hidden_2"]
    [result] = after["messages"][-1]["content"]
    assert result["content"] == [{"tool_name": "hidden_2", "type": "tool_reference"}]


async def test_openai_is_sent_the_same_tools_and_what_was_found_at_the_end() -> None:
    before, after = await bodies(openai_model("gpt-5", endpoint=ENDPOINT))
    assert before["tools"] == after["tools"]
    assert [each["name"] for each in after["tools"]] == ["search_tools", "own"]
    added = after["input"][-1]
    assert added["type"] == "additional_tools"
    assert [each["name"] for each in added["tools"]] == ["hidden_2"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: compatible_model("any", endpoint=ENDPOINT),
        lambda: anthropic_model("claude-3-5-haiku-latest", endpoint=ENDPOINT),
    ],
)
async def test_others_are_sent_what_was_found_among_the_tools(make: Callable[[], Model]) -> None:
    before, after = await bodies(make())
    names = [
        [each.get("name") or each["function"]["name"] for each in body["tools"]] for body in (before, after)
    ]
    assert names == [["search_tools", "own"], ["search_tools", "own", "hidden_2"]]


def test_tools_that_are_hidden_do_not_count_to_the_size_of_a_request() -> None:
    hidden, found = (ContextSize().of(ASKED, each) for each in (parameters(), parameters("hidden_2")))
    everything = ContextSize().of(ASKED, parameters("hidden_0", "hidden_1", "hidden_2"))
    assert hidden < found < everything
