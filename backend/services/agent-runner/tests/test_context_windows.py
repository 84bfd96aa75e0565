"""How large a model's window is: whose word holds, and what is made of the words of providers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from agent_runner.models.anthropic_models import anthropic_model
from agent_runner.models.asking import Endpoint
from agent_runner.models.context_windows import ASSUMED_TOKENS, ContextWindows
from agent_runner.models.model_faults import fault_of_response, limit_in
from agent_runner.models.openai_models import compatible_model, ollama_model
from stigmer_contract.compaction import WindowSource

Routes = Mapping[str, Any]
"""JSON by path; what is not there is 404."""


@asynccontextmanager
async def serving(routes: Routes) -> AsyncGenerator[tuple[Endpoint, list[str]]]:
    """A server that answers so, and the paths that it is asked for."""
    asked: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            asked.append(path)
            status, body = (200, json.dumps(routes[path]).encode()) if path in routes else (404, b"{}")
            lines = f"HTTP/1.1 {status} It\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(lines.encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient() as client:
            yield Endpoint(f"http://127.0.0.1:{port}/v1", {}, client), asked
    finally:
        listener.close()


async def window_of(model: Model, reference: str, stated: int | None = None) -> tuple[int, WindowSource]:
    window = await ContextWindows().of(model, reference, stated)
    assert window is not None
    return window.tokens, window.source


@pytest.mark.parametrize(
    ("routes", "tokens"),
    [
        ({"/api/ps": {"models": [{"name": "it:latest", "context_length": 16_384}]}}, 16_384),
        (
            {
                "/api/show": {
                    "parameters": "stop x\nnum_ctx    8192",
                    "model_info": {"a.context_length": 131_072},
                }
            },
            8192,
        ),
        ({"/api/show": {"model_info": {"a.context_length": 131_072}}}, 4096),
        ({"/api/show": {"model_info": {"a.context_length": 2048}}}, 2048),
        ({"/api/ps": {"models": "none"}, "/api/show": ["odd"]}, None),
        ({"/api/ps": {"models": [{"name": "it:latest", "context_length": -1}]}}, None),
    ],
)
async def test_of_ollama_what_it_gives_the_model_holds(routes: Routes, tokens: int | None) -> None:
    async with serving(routes) as (endpoint, _):
        found = await window_of(ollama_model("it", endpoint=endpoint), "ollama:it")

    expected = (ASSUMED_TOKENS, WindowSource.ASSUMED) if tokens is None else (tokens, WindowSource.PROVIDER)
    assert found == expected


@pytest.mark.parametrize("field", ["max_model_len", "context_length", "max_context_length", "context_window"])
async def test_a_list_of_models_may_say_it(field: str) -> None:
    routes = {"/v1/models": {"data": [{"id": "other", field: 1}, "odd", {"id": "it", field: 65_536}]}}
    async with serving(routes) as (endpoint, asked):
        model, windows = compatible_model("it", endpoint=endpoint), ContextWindows()
        found = [await windows.of(model, "openai-compatible:it", None) for _ in range(3)]

    assert {(each.tokens, each.source) for each in found if each} == {(65_536, WindowSource.PROVIDER)}
    assert asked == ["/v1/models"]


async def test_the_manifest_comes_before_all_and_a_refusal_before_what_is_larger() -> None:
    async with serving({}) as (endpoint, asked):
        model, windows = compatible_model("it", endpoint=endpoint), ContextWindows()
        stated = await windows.of(model, "it:it", 100_000)
        windows.learn("it:it", 50_000)
        windows.learn("it:it", 90_000)
        learned = [await windows.of(model, "it:it", tokens) for tokens in (100_000, 20_000, None)]

    assert stated is not None
    assert (stated.tokens, stated.source) == (100_000, WindowSource.MANIFEST)
    assert [each and each.tokens for each in learned] == [50_000, 20_000, 50_000]
    assert asked == []


async def test_a_known_model_needs_nobody_to_be_asked() -> None:
    async with serving({}) as (endpoint, asked):
        tokens, source = await window_of(
            anthropic_model("claude-sonnet-4-5", endpoint=endpoint), "anthropic:claude-sonnet-4-5"
        )

    assert tokens >= 200_000
    assert source is WindowSource.MODEL_DATA
    assert asked == []


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, you asked for 9,000 tokens.",
            8192,
        ),
        ("prompt is too long: 215000 tokens > 200000 maximum", 200_000),
        ("input length and `max_tokens` exceed context limit: 150000 + 64000 > 200000", 150_000),
        (
            "The input token count (1250000) exceeds the maximum number of tokens allowed (1048576).",
            1_048_576,
        ),
        ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.", 131_072),
        ("Input validation error: inputs must have less than 4095 tokens. Given: 5000", 4095),
        ("the request exceeds the available context size. n_ctx: 4096", 4096),
        ("Range of input length should be [1, 30720]", 30_720),
        ("prompt is too long", None),
        ("maximum context length is 12 tokens", None),
        ("context length " + "9" * 12, None),
    ],
)
def test_the_limit_that_an_error_names_is_read(text: str, limit: int | None) -> None:
    assert limit_in(text) == limit
    fault = fault_of_response(
        "it", 400, {}, {"error": {"message": text, "code": "context_length_exceeded"}}, ""
    )
    assert (fault.overflows, fault.limit_tokens) == (True, limit)


async def test_anthropic_is_told_what_to_keep_in_its_cache() -> None:
    async with serving({}) as (endpoint, _):
        model: Any = anthropic_model("claude-sonnet-4-5", endpoint=endpoint)
        messages = [
            ModelRequest(parts=[UserPromptPart("One.")]),
            ModelResponse(parts=[TextPart("Yes.")]),
            ModelRequest(parts=[UserPromptPart("Two.")]),
        ]
        tool = ToolDefinition(name="look", parameters_json_schema={"type": "object", "properties": {}})
        body, _ = await model.body_of(
            messages, ModelSettings(cache=True), ModelRequestParameters(function_tools=[tool])
        )

    # For the tools, and, by itself, for all up to the end of each request.
    assert body["tools"][-1]["cache_control"]["type"] == "ephemeral"
    assert body["cache_control"]["type"] == "ephemeral"
