"""Models end to end: built from a reference, asked over real HTTP, in every wire format."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings as RequestSettings

from agent_runner.errors import ExecutionFailure, SettingsError
from agent_runner.models import (
    ModelFault,
    ModelPool,
    Retry,
    ShownAnswers,
    backoff_seconds,
    classify_fault,
    model_settings,
    price_of,
)
from agent_runner.models.anthropic_models import MessagesModel
from agent_runner.models.asking import Answers, AsksDirectly
from agent_runner.models.openai_models import CompatibleProvider, ResponsesModel
from agent_runner.models.provider_errors import error_in, retry_after_of
from agent_runner.settings import load_settings
from model_server import VALID_KEY, Fault, FaultKind, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.manifest import ModelSettings
from tls_front import TlsFront
from watching import Watching

REFERENCES = ["openai:gpt-5", "anthropic:claude-sonnet-5", "openai-compatible:local", "ollama:qwen3:8b"]
every_wire_format = pytest.mark.parametrize("reference", REFERENCES)


async def no_blob(sha256: str) -> bytes:
    raise AssertionError(f"blob {sha256} was asked for")


@asynccontextmanager
async def pool_with(environ: dict[str, str]) -> AsyncGenerator[ModelPool]:
    pool = ModelPool(load_settings({"STIGMER_TOKEN": "t", **environ}))
    try:
        yield pool
    finally:
        await pool.close()


def environ_for(reference: str, server: ModelServer, key: str = VALID_KEY) -> dict[str, str]:
    return {
        "STIGMER_LLM_PROVIDER": reference.partition(":")[0],
        "STIGMER_LLM_BASE_URL": server.url,
        "STIGMER_LLM_API_KEY": key,
    }


def question(text: str = "Hello.") -> list[ModelMessage]:
    return [ModelRequest(parts=[UserPromptPart(text)])]


@asynccontextmanager
async def model_of(reference: str, server: ModelServer, key: str = VALID_KEY) -> AsyncGenerator[Model]:
    async with pool_with(environ_for(reference, server, key)) as pool:
        yield (await pool.build(reference, no_blob)).model


async def ask(model: Model, *, timeout_seconds: float = 10) -> tuple[ModelResponse, list[str]]:
    """One request, never repeated: the answer and the pieces in which it came."""
    settings, watching = RequestSettings(timeout=timeout_seconds), Watching()
    shown = ShownAnswers(model, watching)
    return await shown.request(question(), settings, ModelRequestParameters()), watching.pieces


async def fault_of(model: Model, *, timeout_seconds: float = 10) -> ModelFault:
    with pytest.raises(Exception) as caught:
        await ask(model, timeout_seconds=timeout_seconds)
    return classify_fault(caught.value)


# --- answers ----------------------------------------------------------------------------------


@every_wire_format
async def test_an_answer_comes_whole_and_with_its_usage(reference: str) -> None:
    turn = ScriptedTurn("One two three.", input_tokens=42, output_tokens=7)
    with ModelServer(ScriptedModel([turn])) as server:
        async with model_of(reference, server) as model:
            response, pieces = await ask(model)

    assert (response.text, len(response.parts)) == ("One two three.", 1)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (42, 7)
    assert pieces == ["One ", "two ", "three."]


@every_wire_format
async def test_an_agent_calls_tools_and_goes_on_with_their_results(reference: str) -> None:
    script = ScriptedModel(
        [
            ScriptedTurn(
                "Let me see.", [ScriptedCall("add", {"a": 2, "b": 3}), ScriptedCall("add", {"a": 4, "b": 5})]
            ),
            ScriptedTurn("", [ScriptedCall("add", {"a": 5, "b": 9})], thinking="Nearly there."),
            ScriptedTurn("It is 14."),
        ]
    )
    with ModelServer(script) as server:
        async with pool_with(environ_for(reference, server)) as pool:
            agent = Agent(
                (await pool.build(reference, no_blob)).model,
                model_settings=model_settings(ModelSettings(), load_settings({"STIGMER_TOKEN": "t"})),
            )

            @agent.tool_plain
            def add(a: int, b: int) -> int:
                return a + b

            result = await agent.run("[conversation sum] Add them up.")

    assert result.output == "It is 14."
    calls = [
        part.args_as_dict()
        for message in result.all_messages()
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    assert calls == [{"a": 2, "b": 3}, {"a": 4, "b": 5}, {"a": 5, "b": 9}]
    thoughts = [
        part.content
        for message in result.all_messages()
        for part in message.parts
        if isinstance(part, ThinkingPart)
    ]
    assert thoughts == ["Nearly there."]
    assert server.asked == {("sum", 1): 1, ("sum", 2): 1, ("sum", 3): 1}


@every_wire_format
async def test_a_provider_is_sent_what_its_own_sdk_would_send(reference: str) -> None:
    call = ScriptedCall("add", {"a": 2, "b": 3})
    script = ScriptedModel([ScriptedTurn("So.", [call], thinking="Hm."), ScriptedTurn("It is 5.")])

    with ModelServer(script) as server:
        async with pool_with(environ_for(reference, server)) as pool:
            ours = (await pool.build(reference, no_blob)).model
            await _add(ours, "sum")
            await _add(_as_the_sdk_sends_it(ours), "other")

    assert len(server.bodies) == 4
    assert _without_marks(server.bodies[:2]) == _without_marks(server.bodies[2:])


async def _add(model: Model, conversation: str) -> None:
    agent = Agent(model, instructions="Add.", model_settings=RequestSettings(max_tokens=9))

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    async with agent.iter(f"[conversation {conversation}] Add them up.") as run:
        async for node in run:
            if Agent.is_model_request_node(node) and not isinstance(model, Answers):
                async with node.stream(run.ctx) as stream:
                    async for _ in stream:
                        pass


def _as_the_sdk_sends_it(ours: Model) -> Model:
    """The same model of pydantic-ai's, on the SDK itself."""
    assert isinstance(ours, AsksDirectly)
    endpoint = ours.endpoint
    if isinstance(ours, MessagesModel):
        client = AsyncAnthropic(
            api_key=VALID_KEY, base_url=endpoint.base_url.removesuffix("/v1"), http_client=endpoint.client
        )
        return AnthropicModel(ours.model_name, provider=AnthropicProvider(anthropic_client=client))
    openai = AsyncOpenAI(api_key=VALID_KEY, base_url=endpoint.base_url, http_client=endpoint.client)
    if isinstance(ours, ResponsesModel):
        return OpenAIResponsesModel(ours.model_name, provider=OpenAIProvider(openai_client=openai))
    assert isinstance(ours, OpenAIChatModel)
    if ours.system == "ollama":
        return OllamaModel(ours.model_name, provider=OllamaProvider(openai_client=openai))
    provider = CompatibleProvider(openai_client=openai)
    return OpenAIChatModel(ours.model_name, provider=provider)


def _without_marks(bodies: list[dict[str, Any]]) -> Any:
    """Without what tells two conversations apart."""
    return json.loads(json.dumps(bodies).replace("other", "sum"))


async def test_settings_of_the_agent_reach_the_provider() -> None:
    wanted = ModelSettings.model_validate(
        {"temperature": 0.5, "topP": 0.9, "maxTokens": 77, "seed": 3, "timeout": "30s"}
    )
    settings = load_settings(
        {"STIGMER_TOKEN": "t", "STIGMER_LLM_MAX_TOKENS": "5", "STIGMER_LLM_TEMPERATURE": "1.5"}
    )
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        async with pool_with(environ_for("openai-compatible:", server)) as pool:
            model = (await pool.build("openai-compatible:local", no_blob)).model
            for request in (model_settings(wanted, settings), model_settings(ModelSettings(), settings)):
                await model.request(question(), request, ModelRequestParameters())

    first, second = server.bodies
    assert (first["temperature"], first["top_p"], first["max_completion_tokens"], first["seed"]) == (
        0.5,
        0.9,
        77,
        3,
    )
    assert (second["temperature"], second["max_completion_tokens"]) == (1.5, 5)
    assert "seed" not in second


async def test_a_known_model_has_a_price_and_another_has_none() -> None:
    turn = ScriptedTurn("Yes.", input_tokens=1_000_000, output_tokens=100_000)
    with ModelServer(ScriptedModel([turn])) as server:
        prices: list[Decimal | None] = []
        for reference in REFERENCES:
            async with model_of(reference, server) as model:
                prices.append(price_of((await ask(model))[0]))

    assert prices == [Decimal("2.25"), Decimal("3.0"), None, None]


async def test_models_of_one_provider_share_connections() -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        async with pool_with(environ_for("openai-compatible:", server)) as pool:
            for name in ("a", "b", "a"):
                model = (await pool.build(f"openai-compatible:{name}", no_blob)).model
                await model.request(question(), None, ModelRequestParameters())

    assert server.connections == 1


# --- faults -----------------------------------------------------------------------------------


@every_wire_format
async def test_too_many_requests_are_retryable_after_what_the_provider_asks(reference: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    faults = [
        Fault("status", 429, "Slow down.", retry_after="7"),
        Fault("status", 429, "Slow down.", retry_after=format_datetime(later, usegmt=True)),
        Fault("status", 429, "Slow down."),
    ]
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: faults})) as server:
        async with model_of(reference, server) as model:
            in_seconds, as_date, unsaid = [await fault_of(model) for _ in faults]

    assert in_seconds == ModelFault(
        Retry.OFTEN,
        7.0,
        ErrorCode.MODEL_UNAVAILABLE,
        f"model {reference.partition(':')[2]!r} failed: 429: Slow down.",
        "try again later, or name another model",
        is_away=True,
    )
    assert as_date.retry_after_seconds is not None
    assert 3500 < as_date.retry_after_seconds <= 3600
    assert unsaid.retry_after_seconds is None


@every_wire_format
async def test_a_server_error_is_retryable_and_not_retried_by_the_sdk(reference: str) -> None:
    statuses = [408, 409, 500, 502, 503, 529]
    faults = [Fault("status", status) for status in statuses]
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: faults})) as server:
        async with model_of(reference, server) as model:
            found = [await fault_of(model) for _ in faults]

    assert [(fault.retryable, fault.code) for fault in found] == [(True, ErrorCode.MODEL_UNAVAILABLE)] * 6
    for status, fault in zip(statuses, found, strict=True):
        assert fault.message.endswith(f"{status}: the model is out of order")
    assert server.asked == {("default", 1): 6}


@every_wire_format
@pytest.mark.parametrize("kind", ["cut", "end_early", "malformed", "error_event"])
async def test_a_broken_stream_is_never_taken_for_an_answer(reference: str, kind: FaultKind) -> None:
    faults = [Fault(kind, 529, after_pieces=pieces) for pieces in range(5)]
    turn = ScriptedTurn("One two three four.")
    with ModelServer(ScriptedModel([turn], {1: faults})) as server:
        async with model_of(reference, server) as model:
            found = [await fault_of(model) for _ in faults]

    assert [(fault.retryable, fault.code) for fault in found] == [(True, ErrorCode.MODEL_UNAVAILABLE)] * 5


@every_wire_format
@pytest.mark.parametrize("kind", ["cut", "end_early"])
async def test_a_tool_call_that_breaks_off_is_never_carried_out(reference: str, kind: FaultKind) -> None:
    faults = [Fault(kind, after_pieces=pieces) for pieces in range(2, 9)]
    turn = ScriptedTurn("", [ScriptedCall("write", {"path": "a b c d e f g h", "text": "i j k l m n"})])
    with ModelServer(ScriptedModel([turn], {1: faults})) as server:
        async with model_of(reference, server) as model:
            found = [await fault_of(model) for _ in faults]

    assert [(fault.retryable, fault.code) for fault in found] == [(True, ErrorCode.MODEL_UNAVAILABLE)] * 7


@every_wire_format
async def test_a_model_that_says_nothing_times_out(reference: str) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: [Fault("hang")]})) as server:
        async with model_of(reference, server) as model:
            fault = await fault_of(model, timeout_seconds=0.2)

    assert (fault.retryable, fault.code) == (True, ErrorCode.MODEL_UNAVAILABLE)
    assert fault.message.endswith("failed: no answer began within 0.2 seconds")


@every_wire_format
async def test_an_answer_that_takes_longer_than_its_time_out_is_read_to_its_end(reference: str) -> None:
    turn = ScriptedTurn("so " * 60 + "done", chunk_seconds=0.1)
    with ModelServer(ScriptedModel([turn])) as server:
        async with model_of(reference, server) as model:
            response, _ = await ask(model, timeout_seconds=3)

    assert response.text == turn.text
    assert server.asked == {("default", 1): 1}


@every_wire_format
async def test_an_answer_that_stands_still_times_out_whatever_signs_of_life_there_are(reference: str) -> None:
    fault = Fault("stall", after_pieces=10)
    turn = ScriptedTurn("so " * 20)
    with ModelServer(ScriptedModel([turn], {1: [fault]})) as server:
        async with model_of(reference, server) as model:
            found = await fault_of(model, timeout_seconds=0.5)

    assert (found.retryable, found.code) == (True, ErrorCode.MODEL_UNAVAILABLE)
    assert found.message.endswith("failed: its answer stood still for 0.5 seconds")


@every_wire_format
async def test_an_answer_that_does_not_end_is_given_up_and_told(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_runner.models.provider_call.MAX_ANSWER_BYTES", 1000)
    with ModelServer(ScriptedModel([ScriptedTurn("so " * 1000)])) as server:
        async with model_of(reference, server) as model:
            found = await fault_of(model)

    assert (found.code, found.is_away) == (ErrorCode.MODEL_UNAVAILABLE, False)
    assert found.message.endswith("its answer is longer than 1000 bytes")


@every_wire_format
async def test_a_server_that_is_not_there_is_retryable(reference: str) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        pass

    async with model_of(reference, server) as model:
        fault = await fault_of(model)

    assert (fault.retryable, fault.code) == (True, ErrorCode.MODEL_UNAVAILABLE)


@every_wire_format
async def test_a_wrong_key_is_refused_with_the_providers_reason(reference: str) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        async with model_of(reference, server, "sk-wrong-secret-key") as model:
            fault = await fault_of(model)

    assert fault == ModelFault(
        Retry.NEVER,
        None,
        ErrorCode.MODEL_REJECTED,
        f"model {reference.partition(':')[2]!r} was refused: 401: Incorrect API key provided: sk-…",
        "give the runner a valid key of this provider, with access to the model",
    )


@every_wire_format
async def test_an_unknown_model_is_refused_with_the_providers_reason(reference: str) -> None:
    name = reference.partition(":")[2]
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], models=["other"])) as server:
        async with model_of(reference, server) as model:
            fault = await fault_of(model)

    assert (fault.retryable, fault.code) == (False, ErrorCode.MODEL_REJECTED)
    assert fault.message == f"model {name!r} was refused: 404: The model `{name}` does not exist"


@every_wire_format
async def test_a_refused_request_is_not_asked_again(reference: str) -> None:
    statuses = [400, 403, 413, 422]
    faults = [Fault("status", status, "That is not allowed.") for status in statuses]
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: faults})) as server:
        async with model_of(reference, server) as model:
            found = [await fault_of(model) for _ in faults]

    assert [(fault.retryable, fault.code) for fault in found] == [(False, ErrorCode.MODEL_REJECTED)] * 4
    for status, fault in zip(statuses, found, strict=True):
        assert fault.message.endswith(f"was refused: {status}: That is not allowed.")


@pytest.mark.parametrize(
    ("reference", "fault", "hint"),
    [
        (
            "openai:gpt-5",
            Fault("status", 400, "Your input exceeds the context window.", "context_length_exceeded"),
            "give the agent a smaller task, or name a model with a larger context window",
        ),
        (
            "openai-compatible:local",
            Fault("status", 400, "This model's maximum context length is 8192 tokens."),
            "give the agent a smaller task, or name a model with a larger context window",
        ),
        (
            "anthropic:claude-sonnet-5",
            Fault("status", 400, "prompt is too long: 208310 tokens > 200000 maximum"),
            "give the agent a smaller task, or name a model with a larger context window",
        ),
        (
            "openai:gpt-5",
            Fault("status", 429, "You exceeded your current quota.", "insufficient_quota"),
            "top up the provider's account, or name another model",
        ),
    ],
)
async def test_what_waiting_cannot_mend_says_what_can(reference: str, fault: Fault, hint: str) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: [fault]})) as server:
        async with model_of(reference, server) as model:
            found = await fault_of(model)

    assert (found.retryable, found.code, found.hint) == (False, ErrorCode.MODEL_REJECTED, hint)


@every_wire_format
async def test_a_cancelled_request_ends_at_once_and_leaves_the_pool_usable(reference: str) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")], {1: [Fault("hang")]})) as server:
        async with pool_with(environ_for(reference, server)) as pool:
            model = (await pool.build(reference, no_blob)).model
            request = asyncio.create_task(model.request(question(), None, ModelRequestParameters()))
            await asyncio.to_thread(server.wait_until_asked, "default", 1)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(request, 5)
            server.release()

            response = await model.request(question(), None, ModelRequestParameters())

    assert response.text == "Yes."


# --- when to ask again ------------------------------------------------------------------------


def test_waits_grow_with_each_failure_up_to_a_limit_and_are_spread() -> None:
    waits = {
        failures: [backoff_seconds(failures, None) for _ in range(200)] for failures in (1, 3, 9, 10_000)
    }

    for failures, longest in ((1, 1.0), (3, 4.0), (9, 30.0), (10_000, 30.0)):
        assert longest / 2 <= min(waits[failures]) < longest * 5 / 8
        assert longest * 7 / 8 < max(waits[failures]) <= longest


@pytest.mark.parametrize(
    ("asked_for", "at_least", "at_most"), [(0.0, 0, 1), (7.0, 7, 8), (86_400.0, 86_400, 86_401), (-5.0, 0, 1)]
)
def test_a_provider_is_not_asked_earlier_than_it_wants(
    asked_for: float, at_least: float, at_most: float
) -> None:
    assert all(at_least <= backoff_seconds(6, asked_for) <= at_most for _ in range(100))


@every_wire_format
async def test_a_certificate_that_is_not_trusted_is_said_with_what_helps_and_not_tried_again(
    reference: str,
) -> None:
    script = ScriptedModel([ScriptedTurn(text="Hi.")])
    with ModelServer(script) as server, TlsFront(server.port, trustme.CA()) as front:
        endpoint = {"STIGMER_LLM_BASE_URL": f"https://127.0.0.1:{front.port}/v1"}
        async with pool_with(environ_for(reference, server) | endpoint) as pool:
            fault = await fault_of((await pool.build(reference, no_blob)).model)

    assert (fault.retryable, fault.code, server.bodies) == (False, ErrorCode.MODEL_UNAVAILABLE, [])
    assert fault.message == (
        "the certificate of the model's endpoint is not trusted: unable to get local issuer certificate"
    )
    assert fault.hint is not None
    assert "`stigmer config set caBundle FILE`" in fault.hint


def test_a_defect_of_ours_is_not_blamed_on_the_model_and_tells_no_details() -> None:
    assert classify_fault(KeyError("a prompt")) == ModelFault(
        Retry.NEVER,
        None,
        ErrorCode.INTERNAL,
        "asking the model failed unexpectedly: KeyError",
        "look into the runner's log",
    )


# --- what has to be configured ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "environ", "message", "hint"),
    [
        (
            None,
            {},
            "no model is named by the agent, the command, or the runner's environment",
            "write `model: provider:name` into the manifest, give --model provider:name, "
            "or set STIGMER_LLM_PROVIDER and STIGMER_LLM_MODEL for the runner",
        ),
        (
            None,
            {"STIGMER_LLM_PROVIDER": "openai"},
            "no model is named by the agent, the command, or the runner's environment",
            "write `model: provider:name` into the manifest, give --model provider:name, "
            "or set STIGMER_LLM_MODEL for the runner",
        ),
        (
            "openai:gpt-5",
            {"ANTHROPIC_API_KEY": "a"},
            "there is no API key for provider 'openai'",
            "set OPENAI_API_KEY or OPENAI_API_KEY_FILE for the runner",
        ),
        (
            "anthropic:claude-sonnet-5",
            {"STIGMER_LLM_PROVIDER": "openai", "STIGMER_LLM_API_KEY": "of-openai"},
            "there is no API key for provider 'anthropic'",
            "set ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE for the runner",
        ),
        (
            "openai-compatible:local",
            {},
            "model 'openai-compatible:local' has no server to be asked from",
            "set STIGMER_LLM_BASE_URL for the runner, such as http://localhost:8000/v1",
        ),
        (
            "gpt-5",
            {},
            "'gpt-5' is not a model; write provider:name, where provider is one of openai, anthropic, "
            "ollama, openai-compatible, replay, or an endpoint of `llm.endpoints`",
            None,
        ),
        (
            "replay:/nowhere/c.yaml",
            {},
            "could not read the cassette '/nowhere/c.yaml': No such file or directory",
            None,
        ),
        (
            "replay:demo.yaml",
            {"MODE": "cloud"},
            "this runner takes cassettes from the blob store only, not the file 'demo.yaml'",
            "run `stigmer run --model replay:FILE`, which uploads the file",
        ),
    ],
)
async def test_a_model_that_is_not_configured_says_what_to_set(
    reference: str | None, environ: dict[str, str], message: str, hint: str | None
) -> None:
    async with pool_with(environ) as pool:
        with pytest.raises(ExecutionFailure) as caught:
            await pool.build(reference, no_blob)

    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        ErrorCode.MODEL_NOT_CONFIGURED,
        message,
        hint,
    )


async def test_the_runners_default_model_is_used_where_nobody_names_one() -> None:
    environ = {"STIGMER_LLM_PROVIDER": "ollama", "STIGMER_LLM_MODEL": "qwen3:8b"}
    async with pool_with(environ) as pool:
        assert (await pool.build(None, no_blob)).reference == "ollama:qwen3:8b"


async def sent_key(environ: dict[str, str], reference: str, server: ModelServer) -> str:
    """What the server is sent for a key; it refuses all but the valid one, and quotes it."""
    async with pool_with(environ) as pool:
        model = (await pool.build(reference, no_blob)).model
        with pytest.raises(Exception, match="Incorrect API key") as caught:
            await model.request(question(), None, ModelRequestParameters())
    return str(caught.value).rpartition(": ")[2]


@pytest.mark.parametrize(
    ("reference", "environ"),
    [
        ("openai:gpt-5", {"OPENAI_BASE_URL": "URL", "OPENAI_API_KEY": "right"}),
        ("anthropic:claude-sonnet-5", {"ANTHROPIC_BASE_URL": "URL", "ANTHROPIC_API_KEY": "right"}),
        ("openai-compatible:x", {"STIGMER_LLM_BASE_URL": "URL", "STIGMER_LLM_API_KEY": "right"}),
        (
            "acme:x",
            {"STIGMER_LLM_ENDPOINTS": '{"acme": {"url": "URL", "key": "KEY"}}', "KEY": "right"},
        ),
        (
            "acme:x",
            {
                "STIGMER_LLM_ENDPOINTS": '{"acme": {"url": "URL", "key": "KEY", "keyHeader": "x-api-key"}}',
                "KEY": "right",
            },
        ),
        ("acme:x", {"STIGMER_LLM_ENDPOINTS": '{"acme": "URL"}'}),
    ],
)
async def test_a_key_goes_where_it_belongs_and_nowhere_else(reference: str, environ: dict[str, str]) -> None:
    others = {
        "OPENAI_API_KEY": "of-openai",
        "ANTHROPIC_API_KEY": "of-anthropic",
        "STIGMER_LLM_API_KEY": "of-the-general-server",
        "STIGMER_LLM_BASE_URL": "http://127.0.0.1:9/v1",
        "OTHER_KEY": "of-another-endpoint",
    }
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        own = {name: value.replace("URL", server.url) for name, value in environ.items()}
        sent = await sent_key(others | own, reference, server)

    assert sent == ("right" if "right" in environ.values() else "no-key")


async def test_a_general_server_draws_no_other_providers_key() -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        environ = {
            "STIGMER_LLM_BASE_URL": server.url,
            "OPENAI_API_KEY": "of-openai",
            "ANTHROPIC_API_KEY": "of-anthropic",
            "OPENAI_BASE_URL": "http://127.0.0.1:9",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        }
        for reference in ("openai:gpt-5", "anthropic:claude-sonnet-5"):
            async with pool_with(environ) as pool:
                fault = await fault_of((await pool.build(reference, no_blob)).model)
                assert fault.code is ErrorCode.MODEL_UNAVAILABLE
        assert await sent_key(environ, "openai-compatible:x", server) == "no-key"


async def test_several_endpoints_serve_side_by_side_with_their_headers_and_queries() -> None:
    with (
        ModelServer(ScriptedModel([ScriptedTurn("One.")])) as one,
        ModelServer(ScriptedModel([ScriptedTurn("Two.")])) as two,
    ):
        endpoints = {
            "one": {"url": f"{one.url}?api-version=1", "key": "K", "headers": {"X-Title": "me"}},
            "two": {"url": two.url, "key": "K"},
        }
        environ = {
            "STIGMER_LLM_ENDPOINTS": json.dumps(endpoints),
            "K": VALID_KEY,
            "STIGMER_LLM_PROVIDER": "two",
        }
        async with pool_with(environ | {"STIGMER_LLM_MODEL": "x"}) as pool:
            answers = [
                (await ask((await pool.build(reference, no_blob)).model))[0].text
                for reference in ("one:x", "two:x", None)
            ]
            with pytest.raises(ExecutionFailure, match="knows no provider or endpoint 'three'; there are"):
                await pool.build("three:x", no_blob)

    assert answers == ["One.", "Two.", "Two."]
    assert one.requests[0].path.endswith("/v1/chat/completions?api-version=1")
    assert one.requests[0].headers["x-title"] == "me"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "no JSON"),
        ("[]", "no mapping"),
        ('{"openai": "http://h"}', "is a provider's name"),
        ('{"A b": "http://h"}', "cannot name an endpoint"),
        ('{"a": 1}', "is no mapping"),
        ('{"a": {}}', "must be a URL"),
        ('{"a": {"url": "http://me:sk-live-1234@h"}}', "must be a URL without a password"),
        ('{"a": {"url": "http://h", "kee": "K"}}', "unknown field 'kee'"),
        ('{"a": {"url": "http://h", "key": "sk-live-1234"}}', "must name an environment variable"),
        ('{"a": {"url": "http://h", "key": "secret:"}}', "needs the name of a secret"),
        ('{"a": {"url": "http://h", "key": "secret:sk live 1234"}}', "needs the name of a secret"),
        ('{"a": {"url": "http://h", "key": "STIGMER_TOKEN"}}', "no key of a model's"),
        ('{"a": {"url": "http://h", "headers": {"Authorization": "x"}}}', "carries a key"),
        ('{"a": {"url": "http://h", "headers": {"X": "a\\nb"}}}', "cannot be sent"),
    ],
)
def test_a_wrong_endpoint_says_what_is_wrong_and_never_quotes_a_key(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings({"STIGMER_TOKEN": "t", "STIGMER_LLM_ENDPOINTS": text})

    assert "sk-live" not in str(caught.value)


async def test_an_exchange_of_keys_between_providers_is_not_possible(tmp_path: Path) -> None:
    with ModelServer(ScriptedModel([ScriptedTurn("Yes.")])) as server:
        environ = {
            "STIGMER_LLM_PROVIDER": "openai",
            "STIGMER_LLM_API_KEY": "of-openai",
            "OPENAI_API_KEY": "of-openai-too",
            "OLLAMA_BASE_URL": server.url,
        }
        async with pool_with(environ) as pool:
            model = (await pool.build("ollama:qwen3", no_blob)).model
            with pytest.raises(Exception, match="Incorrect API key provided: no-key"):
                await model.request(question(), None, ModelRequestParameters())


def test_importing_the_models_imports_no_providers_sdk() -> None:
    code = "import sys, agent_runner.models; print({'openai', 'anthropic'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"


NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 2s "}, 2.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thursday, 26-Nov-26 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu Nov 26 12:00:30 2026"}, 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "2026-11-26T12:00:30Z"}, 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_wait_is_read_in_every_form_that_servers_write(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_of(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"code": 429, "details": [{"@type": "RetryInfo", "retryDelay": "34.07s"}]}}, 34.07),
        ({"error": {"message": "Rate limit reached. Please try again in 6.5s."}}, 6.5),
        ({"error": {"message": "Rate limit reached. Please try again in 20ms."}}, 0.02),
        ({"error": {"message": "Please retry after 10 seconds."}}, 10.0),
        ({"error": {"message": "slow", "retry_after": 3}}, 3.0),
        ({"error": {"message": "slow"}}, None),
    ],
)
def test_a_wait_that_stands_in_the_body_is_read(body: object, seconds: float | None) -> None:
    error = error_in(body)

    assert error is not None
    assert error.retry_after_seconds == seconds
