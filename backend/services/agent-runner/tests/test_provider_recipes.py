"""Each recipe of docs/guides/providers.md: where its requests go, how its key is sent, how its streams read.

The streams are in the forms that the providers document (as of November 2026): a tool call, then an answer.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from fenced_blocks import fenced_blocks
from one_answer_server import Reply, answering, execute_with
from stigmer_contract.model_names import ModelEndpoint, parse_endpoints, written_endpoints

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "providers.md"
KEY = "key-of-the-recipe"
ARGUMENTS = '{"text": "a"}'


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream of Chat Completions."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def call(**more: Any) -> dict[str, Any]:
    """A whole tool call as a delta."""
    function = {"name": "note", "arguments": ARGUMENTS}
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function, **more}]}


def call_in_pieces() -> list[dict[str, Any]]:
    """The same, its arguments in two pieces."""
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "note", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": part}} for part in (ARGUMENTS[:5], ARGUMENTS[5:])]
    return [chunk({"tool_calls": [piece]}) for piece in (first, *pieces)]


USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
CACHED = {**USAGE, "prompt_cache_hit_tokens": 4}
COUNTED: dict[str, Any] = {"choices": [], "usage": USAGE}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
COMMENT = ": OPENROUTER PROCESSING"

TIMINGS = {"timings": {"prompt_n": 10, "predicted_n": 2}}
FILTERS = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}]}
SIGNED = {"extra_content": {"google": {"thought_signature": "SIGNED"}}}
THINKING = {"role": "assistant", "content": None, "reasoning_content": "hm"}
PARTS = {"content": [{"type": "text", "text": "hello"}]}
HELLO = chunk({"role": "assistant", "content": "hello"})
FIRST = chunk({"role": "assistant", "content": ""})
CALLS, STOP = chunk({}, "tool_calls"), chunk({}, "stop")

STREAMS: dict[str, tuple[list[Any], list[Any]]] = {
    "openrouter": (
        [COMMENT, chunk(call(), provider="Anthropic"), CALLS, COUNTED],
        [COMMENT, chunk({"content": "hello", "reasoning": None}), STOP, COUNTED],
    ),
    "vllm": (
        [FIRST, *call_in_pieces(), chunk({}, "tool_calls", stop_reason=None), COUNTED],
        [HELLO, STOP, COUNTED],
    ),
    "llamacpp": (
        [chunk({"role": "assistant", "content": None}), chunk(call()), chunk({}, "tool_calls", **TIMINGS)],
        [HELLO, chunk({}, "stop", **TIMINGS)],
    ),
    "lmstudio": ([*call_in_pieces(), CALLS, COUNTED], [HELLO, STOP, COUNTED]),
    "azure": (
        [{"choices": [], **FILTERS}, *call_in_pieces(), CALLS, COUNTED],
        [chunk({"content": "hello"}, content_filter_results=FILTERED), STOP, COUNTED],
    ),
    "gemini": (
        [chunk({"role": "assistant", **call(**SIGNED)}, "stop", usage=USAGE)],
        [chunk({"role": "assistant", "content": "hello"}, "stop", usage=USAGE)],
    ),
    "mistral": (
        [FIRST, chunk({"content": "", **call(type=None)}, "tool_calls", usage=USAGE)],
        [chunk(PARTS), chunk({"content": ""}, "stop", usage=USAGE)],
    ),
    "deepseek": (
        [chunk(THINKING), *call_in_pieces(), chunk({}, "tool_calls", usage=CACHED)],
        [HELLO, chunk({"content": ""}, "stop", usage=CACHED)],
    ),
    "groq": (
        [chunk({}, x_groq={"id": "r"}), chunk(call()), chunk({}, "tool_calls", x_groq={"usage": USAGE})],
        [HELLO, chunk({}, "stop", x_groq={"id": "r", "usage": USAGE})],
    ),
}
"""By endpoint: what the model says first, and what after the tool's result."""


def recipes() -> dict[str, ModelEndpoint]:
    """The endpoints of the guide, by name."""
    found: dict[str, ModelEndpoint] = {}
    for text in fenced_blocks(GUIDE, "yaml"):
        for endpoint in parse_endpoints(json.dumps(yaml.safe_load(text)["llm"]["endpoints"])):
            found[endpoint.name] = endpoint
    return found


def written(stream: list[Any]) -> bytes:
    """The body of a streamed answer."""
    frames = [each if isinstance(each, str) else f"data: {json.dumps(each)}" for each in stream]
    return "".join(f"{frame}\n\n" for frame in [*frames, "data: [DONE]"]).encode()


def test_each_recipe_has_its_wire_format_here() -> None:
    assert set(recipes()) == set(STREAMS)


@pytest.mark.parametrize("name", STREAMS)
async def test_a_recipe_s_requests_and_answers_are_those_of_its_provider(name: str) -> None:
    recipe = recipes()[name]
    address = urlsplit(recipe.url)
    calls, answer = STREAMS[name]
    async with answering(lambda count, _: Reply(written(answer if count else calls))) as server:
        here = urlsplit(server.url)
        moved = replace(recipe, url=address._replace(scheme="http", netloc=here.netloc).geturl())
        variables = {"STIGMER_LLM_ENDPOINTS": written_endpoints([moved])}
        if recipe.key is not None:
            variables[recipe.key] = KEY

        ending = await execute_with(variables, f"{name}:some/model-1")

    assert (ending.output, ending.noted, ending.message) == ("hello", ["a"], "")
    query = f"?{address.query}" if address.query else ""
    sent = {"authorization": f"Bearer {KEY}"} if recipe.key else {}
    if recipe.key and recipe.key_header != "authorization":
        sent = {recipe.key_header: KEY}
    for head, body in zip(server.heads, server.bodies, strict=True):
        first, *lines = head.splitlines()
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
        assert first == f"POST {address.path}/chat/completions{query} HTTP/1.1"
        assert body["model"] == "some/model-1"
        assert {key: value for key, value in headers.items() if value.endswith(KEY)} == sent
        assert recipe.headers.items() <= headers.items()
    assert ("SIGNED" in json.dumps(server.bodies[1])) == (name == "gemini")
