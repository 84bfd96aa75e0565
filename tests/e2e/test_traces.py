"""Traces: what a collector gets of an execution, what it never gets, and that it is in nobody's way."""

import json
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest

from canaries import find_canaries, new_canary
from e2e_script import QUICK_HEARTBEAT, TOOL_CALLS, runner_environment, ten_tool_script
from executions import Execution, agent_manifest, inline, tool_results
from model_server import Fault, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunnerProcess, RunningStack
from stigmer_contract.events import LegStarted, ToolFinished
from temporal_server import free_port
from trace_collector import CollectedSpan, TraceCollector

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("traces")]

CANARIES = {name: new_canary() for name in ("manifest", "header", "prompt", "answer", "argument", "result")}
SECRET_NAME = "DEPLOY_TOKEN"
REFUSED_TURN = 3
STOP_SECONDS = 60


def script() -> ScriptedModel:
    """Ten commands; or one that prints its secret and fails, after which the provider quotes the secret."""
    fail = 'echo "$TOKEN is wrong" >&2; exit 1'
    tell = f"echo '{CANARIES['argument']}'; cat told.txt"
    told = {"path": "told.txt", "content": CANARIES["result"]}
    holder = [
        ScriptedTurn(text=CANARIES["answer"], calls=[ScriptedCall("write_file", told)]),
        ScriptedTurn(calls=[ScriptedCall("run_command", {"command": f"{tell}; {fail}"})]),
        ScriptedTurn(text="never said"),
    ]
    ten = ten_tool_script()
    return ScriptedModel(ten.turns, conversations={"holder": holder})


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(script()) as server:
        yield server


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


@pytest.fixture(scope="module")
def stack(
    model: ModelServer, collector: TraceCollector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    home = tmp_path_factory.mktemp("traces")
    headers = home / "headers"
    headers.write_text(f"authorization=Bearer {CANARIES['header'].replace('=', '%3D')}", encoding="utf-8")
    environment = runner_environment(model) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS_FILE": str(headers),
        "LOG_LEVEL": "debug",
    }
    with RunningStack(home, server_environment=QUICK_HEARTBEAT, runner_environment=environment) as running:
        running.client.put(
            f"/v1/secrets/{SECRET_NAME}", json={"value": CANARIES["manifest"]}
        ).raise_for_status()
        yield running


def leg_of(collector: TraceCollector, execution: Execution, *, attempt: int = 1) -> list[CollectedSpan]:
    """All spans of a leg, its root first."""

    def is_root(span: CollectedSpan) -> bool:
        found = (span.attributes.get("stigmer.execution.id"), span.attributes.get("stigmer.attempt"))
        return found == (execution.execution_id, attempt)

    root = collector.wait_for(is_root)
    spans = [span for span in collector.spans if span.span.trace_id == root.span.trace_id]
    return sorted(spans, key=lambda span: span.span.start_time_unix_nano)


def replace_runner(
    stack: RunningStack, name: str, environment: dict[str, str], *, wait: bool = True
) -> RunnerProcess:
    stack.kill_runner(stack.runners[-1])
    return stack.start_runner(name, environment=environment, wait=wait)


def ten_tools(stack: RunningStack) -> tuple[Execution, str]:
    key = uuid4().hex
    return Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]"), key


def test_the_spans_of_an_execution_are_one_tree(stack: RunningStack, collector: TraceCollector) -> None:
    execution, _ = ten_tools(stack)
    execution.wait_until_completed()
    root, agent, *steps = leg_of(collector, execution)
    assert (root.name, root.span.parent_span_id) == ("leg", b"")
    assert root.attributes == {
        "stigmer.execution.id": execution.execution_id,
        "stigmer.session.id": execution.session_id,
        "stigmer.attempt": 1,
        "gen_ai.agent.name": "worker",
        "stigmer.leg.end": "completed",
    }
    assert (
        root.resource.items() >= {"service.name": "stigmer-agent-runner", "service.version": "0.1.0"}.items()
    )
    assert (agent.operation, agent.span.parent_span_id) == ("invoke_agent", root.span.span_id)
    assert {step.span.parent_span_id for step in steps} == {agent.span.span_id}
    assert [step.name for step in steps] == [
        *(["chat gpt-5", "execute_tool run_command"] * TOOL_CALLS),
        "chat gpt-5",
    ]
    for step in steps[::2]:
        tokens = {name: step.attributes[f"gen_ai.usage.{name}"] for name in ("input_tokens", "output_tokens")}
        assert (tokens, step.attributes["stigmer.model_requests"]) == (
            {"input_tokens": 100, "output_tokens": 10},
            1,
        )
    assert {step.attributes["stigmer.tool.outcome"] for step in steps[1::2]} == {"succeeded"}


def test_a_collector_gets_no_text_and_no_secret(
    stack: RunningStack, collector: TraceCollector, model: ModelServer
) -> None:
    # A model's name is text of the manifest too, and it stands in spans.
    manifest = agent_manifest(model=f"openai:{CANARIES['manifest']}", env={"TOKEN": {"secret": SECRET_NAME}})
    message = f"your key {CANARIES['manifest']} and your prompt {CANARIES['prompt']} are wrong"
    model.script.faults = {REFUSED_TURN: [Fault("status", 400, message)] * 3}
    execution = Execution.start(stack, manifest, f"{CANARIES['prompt']} [conversation holder]")
    execution.wait_until_ended()
    model.script.faults = {}
    results = json.dumps([inline(result.result) for result in tool_results(execution.events)])
    assert f"[secret {SECRET_NAME}] is wrong" in results
    assert find_canaries(results.encode(), CANARIES) == ["argument", "result"]

    spans = leg_of(collector, execution)
    assert [span.operation for span in spans] == [
        *(None, "invoke_agent"),
        *("chat", "execute_tool") * 2,
        "chat",
    ]
    assert spans[2].name == f"chat [secret {SECRET_NAME}]"
    code = spans[0].attributes["error.type"]
    assert ("stigmer.model_request_failed", {"error.type": code}) in spans[-1].events
    assert spans[0].attributes["stigmer.leg.end"] == "failed"
    assert find_canaries(b"".join(collector.bodies), CANARIES) == []
    for text in (b"Do what you are told", b"Do it.", b"Working on", b"done.txt", b"All ten"):
        assert text not in b"".join(collector.bodies)
    authorization = f"Bearer {CANARIES['header']}"
    assert {authorization in head for head in collector.heads} == {True}
    assert find_canaries(stack.log_of("runner").encode(), CANARIES) == []


def test_a_later_legs_spans_are_of_what_it_did_itself(
    stack: RunningStack, collector: TraceCollector, model: ModelServer
) -> None:
    execution, key = ten_tools(stack)
    execution.wait_for(lambda recorded: recorded.sequence >= 14)
    stack.kill_runner(stack.runners[-1])
    asked_before = sum(count for (conversation, _), count in model.asked.items() if conversation == key)
    stack.start_runner("after-kill", wait=False)
    execution.wait_until_completed()
    asked = sum(count for (conversation, _), count in model.asked.items() if conversation == key)

    leg = Counter(span.operation for span in leg_of(collector, execution, attempt=2))
    events = execution.events
    starts = [place for place, event in enumerate(events) if isinstance(event, LegStarted)]
    finished = [event for event in events[starts[1] :] if isinstance(event, ToolFinished)]
    assert asked_before >= 2
    assert leg == {None: 1, "invoke_agent": 1, "chat": asked - asked_before, "execute_tool": len(finished)}


@pytest.mark.parametrize("collectors_fault", ["away", "refuses", "silent"])
def test_a_collector_that_takes_nothing_costs_one_line_in_the_log(
    stack: RunningStack, collectors_fault: str
) -> None:
    with TraceCollector(status=403, is_silent=collectors_fault == "silent") as faulty:
        url = f"http://127.0.0.1:{free_port()}" if collectors_fault == "away" else faulty.url
        runner = replace_runner(
            stack, collectors_fault, {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "LOG_LEVEL": "info"}
        )
        for batch in (1, 2):
            execution, _ = ten_tools(stack)
            execution.wait_until_completed()
            if collectors_fault != "away":
                faulty.wait_for_requests(batch)
        runner.process.terminate()
        assert runner.process.wait(STOP_SECONDS) == 0
    log = stack.log_of(collectors_fault)
    address = url.removeprefix("http://")
    assert log.count(f"traces do not reach {address}, and are dropped until they do: ") == 1
    assert log.count(" warning ") == 1
    assert "opentelemetry" not in log


def test_without_a_collector_nothing_of_the_sdk_is_imported(stack: RunningStack) -> None:
    replace_runner(stack, "untraced", {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "PYTHONPROFILEIMPORTTIME": "1"})
    execution, _ = ten_tools(stack)
    execution.wait_until_completed()
    log = stack.log_of("untraced")
    assert "| agent_runner.tracing" in log.replace("  ", "")
    assert [
        line for line in log.splitlines() if "opentelemetry.sdk" in line or "opentelemetry.exporter" in line
    ] == []
