"""Runs one test of an agent: an execution like any other, in a directory of its own, and what it came to."""

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stigmer_cli.errors import ModelNotConfigured, StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.agent_tests.checks import Ended
    from stigmer_cli.agent_tests.report import Outcome, RunOutcome
    from stigmer_cli.agent_tests.test_file import AgentTest
    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.config import Configuration, Connection
    from stigmer_contract.api import ExecutionResource
    from stigmer_contract.events import RecordedEvent
    from stigmer_contract.waits import WaitReason

DEFAULT_TIMEOUT_SECONDS: Final = 600.0
END_SECONDS: Final = 60.0
"""How long a cancelled execution is waited for: a runner that is no more ends none."""


@dataclass(frozen=True)
class GivenTest:
    """A test, and where it stands."""

    path: Path
    test: "AgentTest"

    @property
    def name(self) -> str:
        from stigmer_cli.agent_tests.test_file import ENDING

        return self.test.name or self.path.name.removesuffix(ENDING)


@dataclass(frozen=True)
class TestWays:
    """How all tests of one call are run."""

    model: str | None
    """In the place of the tests' own."""
    records_judges: bool
    """What judges say is written to the tests' cassettes."""
    keeps_executions: bool
    """Whether a person can look at the executions afterwards."""


def run_test(
    given: GivenTest, ways: TestWays, connection: "Connection", configuration: "Configuration"
) -> "Outcome":
    """Run a test as often as it wants."""
    from stigmer_cli.agent_tests.report import Outcome
    from stigmer_cli.api_client import ApiClient

    outcome = Outcome(
        given.name, given.path, [], given.test.pass_rate, keeps_executions=ways.keeps_executions
    )
    with ApiClient(connection) as client:
        for _ in range(given.test.runs):
            outcome.runs.append(_run_once(given, ways, client, configuration))
            if outcome.runs[-1].skipped_because is not None:
                break
    return outcome


def _run_once(
    given: GivenTest, ways: TestWays, client: "ApiClient", configuration: "Configuration"
) -> "RunOutcome":
    from stigmer_cli.agent_tests.report import RunOutcome

    started = time.monotonic()
    run = RunOutcome(None, [], 0.0, None)
    with _workspace(given) as workspace:
        try:
            execution = _start(given, ways.model, client, configuration, workspace)
            run = replace(run, execution_id=execution.execution_id)
            run = _judged(run, given, ways, client, configuration, execution.execution_id, workspace)
        except ModelNotConfigured as error:
            run = replace(run, skipped_because=error.message)
        except StigmerError as error:
            run = replace(run, failures=[error.message])
    return replace(run, seconds=time.monotonic() - started)


def _judged(
    run: "RunOutcome",
    given: GivenTest,
    ways: TestWays,
    client: "ApiClient",
    configuration: "Configuration",
    execution_id: str,
    workspace: Path,
) -> "RunOutcome":
    """What an execution that has begun comes to, and whether that is what the test expects."""
    from stigmer_cli.agent_tests.checks import failures
    from stigmer_cli.commands.test_judging import judge
    from stigmer_contract.error_codes import ErrorCode

    execution, events = wait_for_end(client, execution_id, _timeout(given.test))
    usage = execution.usage
    run = replace(run, tokens=usage.total_tokens, cost_usd=usage.cost_usd)
    ended = _ended(client, execution, events, workspace)
    if execution.error is not None and execution.error.code is ErrorCode.MODEL_NOT_CONFIGURED:
        return replace(run, skipped_because=execution.error.message)
    if given.test.expect.commands:
        ended = replace(ended, commands=_run_commands(given.test, client, execution))
    found = failures(given.test, ended)
    if not found and given.test.expect.judge is not None:
        found = judge(given, ended, ways, client, configuration)
    return replace(run, failures=found)


@contextmanager
def _workspace(given: GivenTest) -> Generator[Path]:
    """A directory with the test's files, removed afterwards."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="stigmer-test-")))
    try:
        files = given.test.files
        if isinstance(files, str):
            source = given.path.parent / files
            if not source.is_dir():
                raise UsageError(f"{given.path}: files: there is no folder {str(source)!r}")
            shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
        for path, content in (files if isinstance(files, dict) else {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content, encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    given: GivenTest, model: str | None, client: "ApiClient", configuration: "Configuration", workspace: Path
) -> "ExecutionResource":
    from stigmer_cli.commands.manifest_files import names_a_path, read_agent, read_cassette
    from stigmer_cli.commands.run import Order, choose_order_model, create_execution, pack_agent

    folder, test = given.path.parent, given.test
    wanted = model or test.model
    cassette = read_cassette(wanted, Path.cwd() if model else folder)
    agent = str(folder / test.agent)
    manifest, packs = None, ()
    if names_a_path(agent):
        file = read_agent(agent)
        manifest, packs = pack_agent(file)
        if wanted is None:
            cassette = read_cassette(manifest.spec.model, file.folder)
    name = None if manifest else test.agent
    order = Order(name, manifest, test.input, wanted, cassette, None, workspace, packs)
    return create_execution(order, choose_order_model(order, configuration), client, configuration)


def _timeout(test: "AgentTest") -> float:
    return DEFAULT_TIMEOUT_SECONDS if test.timeout is None else test.timeout.total_seconds()


def wait_for_end(
    client: "ApiClient", execution_id: str, timeout_seconds: float
) -> "tuple[ExecutionResource, list[RecordedEvent]]":
    """Wait for the end; cancelled where it takes too long, or waits for a person.

    Raises:
        StigmerError: it was cancelled, and has not ended since.
    """
    from stigmer_cli.commands.awaiting import Awaited

    deadline = time.monotonic() + timeout_seconds
    reason: str | None = None
    with Awaited(client, execution_id) as awaited:
        while not (execution := awaited.look()).phase.is_terminal:
            waits, is_over = waits_for_person(execution.waiting_for), time.monotonic() > deadline
            if reason is None and (waits or is_over):
                reason = "it waits, and a test has nobody to ask" if waits else "the test's time is over"
                client.cancel_execution(execution_id, reason)
                deadline = time.monotonic() + END_SECONDS
            elif reason is not None and is_over:
                stands = f": {execution.standing_reason}" if execution.standing_reason else ""
                within = f"within {END_SECONDS:.0f} s of being cancelled"
                raise StigmerError(f"{reason}, and the execution has not ended {within}{stands}")
            awaited.wait(deadline)
    return execution, list(client.read_events(execution_id))


def waits_for_person(reasons: "Sequence[WaitReason]") -> bool:
    """Whether one of them is a person's decision or answer; a time comes, and a model may come back."""
    from stigmer_contract.waits import WaitKind

    return any(reason.kind in (WaitKind.APPROVAL, WaitKind.ANSWER) for reason in reasons)


def _ended(
    client: "ApiClient", execution: "ExecutionResource", events: "Sequence[RecordedEvent]", workspace: Path
) -> "Ended":
    from typing import cast

    from pydantic import JsonValue

    from stigmer_cli.agent_tests.checks import Call, Ended
    from stigmer_contract.conversation import ModelAnswer
    from stigmer_contract.events import ModelResponded

    answer = None if execution.output is None else cast("JsonValue", client.load_payload(execution.output))
    calls = list[Call]()
    for recorded in events:
        if isinstance(event := recorded.event, ModelResponded) and not event.agent_path:
            said = ModelAnswer.model_validate(client.load_payload(event.response))
            calls += [Call(call.tool, call.arguments) for call in said.tool_calls]
    return Ended(execution, answer, calls, workspace)


def _run_commands(
    test: "AgentTest", client: "ApiClient", execution: "ExecutionResource"
) -> dict[str, str | None]:
    """Run the test's commands in the session, by an agent that does nothing else, without a network."""
    from stigmer_contract.api import CreateExecution
    from stigmer_contract.cassette import Cassette, CassetteToolCall, Expectation, Turn, dump_cassette
    from stigmer_contract.conversation import ToolOutcome, ToolResult
    from stigmer_contract.events import ToolFinished
    from stigmer_contract.manifest import AgentManifest

    commands = test.expect.commands
    calls = [
        CassetteToolCall(id=f"command-{place}", tool="run_command", arguments={"command": command})
        for place, command in enumerate(commands)
    ]
    prompt = "Run the commands of the test."
    turns = [Turn(expect=Expectation(prompt=prompt), tool_calls=calls), Turn(text="Done.")]
    content = dump_cassette(Cassette(version=1, turns=turns)).encode()
    manifest = AgentManifest.model_validate(
        {
            "apiVersion": "agentic.stigmer.ai/v1",
            "kind": "Agent",
            "metadata": {"name": "test-commands"},
            "spec": {"instructions": "Run the commands.", "tools": ["shell"], "network": "none"},
        }
    )
    request = CreateExecution(
        manifest=manifest,
        input=prompt,
        session_id=execution.session_id,
        model=f"replay:sha256:{client.upload_blob(content)}",
    )
    started = client.create_execution(request)
    ended, events = wait_for_end(client, started.execution_id, _timeout(test))
    reason = ended.error.message if ended.error else f"the execution is {ended.phase}"
    results: dict[str, str | None] = dict.fromkeys(commands, f"it was not run: {reason}")
    for recorded in events:
        event = recorded.event
        if isinstance(event, ToolFinished) and event.call_id.startswith("command-"):
            said = ToolResult.model_validate(client.load_payload(event.result)).text
            command = commands[int(event.call_id.removeprefix("command-"))]
            results[command] = None if event.outcome is ToolOutcome.SUCCEEDED else said
    return results
