"""`stigmer test`: runs tests of agents on the stack, as executions like any others, and tells how it went."""

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stigmer_cli.commands.completions import complete_files
from stigmer_cli.commands.test_making import add
from stigmer_cli.errors import StigmerError, UsageError

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
MAX_JOBS: Final = 32
POLL_SECONDS: Final = 0.1
END_SECONDS: Final = 60.0
"""How long a cancelled execution is waited for: a runner that is no more ends none."""


@dataclass(frozen=True)
class _Given:
    """A test, and where it stands."""

    path: Path
    test: "AgentTest"

    @property
    def name(self) -> str:
        from stigmer_cli.agent_tests.test_file import ENDING

        return self.test.name or self.path.name.removesuffix(ENDING)


class _RunsByDefault(click.Group):
    """`stigmer test PATH` means `stigmer test run PATH`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the verb in where there is none."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("test", cls=_RunsByDefault, epilog="Example: stigmer test ./report-writer --junit results.xml")
def test() -> None:
    """Run tests of agents, or make one of an execution.

    `stigmer test PATH` is short for `stigmer test run PATH`.
    """


@test.command("run", epilog="Example: stigmer test run ./report-writer --junit results.xml")
@click.argument("paths", nargs=-1, metavar="[FILE|DIR]...", shell_complete=complete_files)
@click.option("--jobs", "-j", type=click.IntRange(1, MAX_JOBS), default=4, show_default=True, help="At once.")
@click.option("--model", metavar="PROVIDER:NAME", help="Use this model, whatever the tests say.")
@click.option(
    "--junit", metavar="FILE", help="Write the results as JUnit XML.", shell_complete=complete_files
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--strict", is_flag=True, help="A test that is skipped fails.")
def run_tests(
    paths: Sequence[str], jobs: int, model: str | None, junit: str | None, as_json: bool, strict: bool
) -> None:
    """Run tests of agents: files that end in .test.yaml, in the folders given or in this one.

    Each is an execution on the stack in a workspace of its own, and what it must come to. Exit code 1: a test
    failed; 2: a file is none, or there is none; 3: there is no stack, and none can be started.
    """
    from stigmer_cli.agent_tests.junit import junit_xml
    from stigmer_cli.agent_tests.report import print_outcome, print_summary, results_json, write_step_summary
    from stigmer_cli.agent_tests.test_file import read_test
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json

    tests = [_Given(path, read_test(path)) for path in find_tests(paths)]
    _check_junit(junit)
    configuration = load_configuration(os.environ)
    connection = connect(configuration)
    outcomes = list["Outcome"]()
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_run_test, given, model, connection, configuration) for given in tests]
        for each in running:
            outcomes.append(each.result())
            print_outcome(outcomes[-1], strict=strict)
    if junit is not None:
        Path(junit).write_text(junit_xml(outcomes, strict=strict), encoding="utf-8")
    if as_json:
        print_json(results_json(outcomes))
    print_summary(outcomes, strict=strict)
    write_step_summary(os.environ.get("GITHUB_STEP_SUMMARY"), outcomes)
    if any(not each.is_good(strict=strict) for each in outcomes):
        raise click.exceptions.Exit(1)


def find_tests(paths: Sequence[str]) -> list[Path]:
    """The test files that are meant, sorted, each once.

    Raises:
        UsageError: one is not there, or there are none.
    """
    from stigmer_cli.agent_tests.test_file import ENDING

    found = dict[Path, None]()
    for each in map(Path, paths or (".",)):
        if each.is_dir():
            found |= dict.fromkeys(sorted(path for path in each.rglob(f"*{ENDING}") if path.is_file()))
        elif each.is_file():
            found[each] = None
        else:
            raise UsageError(
                f"there is no test {str(each)!r}", f"name a file that ends in {ENDING}, or a folder"
            )
    if not found:
        raise UsageError(
            f"there are no files that end in {ENDING}", "write one, or let `stigmer test add` make one"
        )
    return list(found)


def _check_junit(junit: str | None) -> None:
    if junit is not None and not Path(junit).absolute().parent.is_dir():
        raise UsageError(f"could not write {junit!r}: its folder does not exist")


# --- one test -----------------------------------------------------------------------------------


def _run_test(
    given: _Given, model: str | None, connection: "Connection", configuration: "Configuration"
) -> "Outcome":
    from stigmer_cli.agent_tests.report import Outcome
    from stigmer_cli.api_client import ApiClient

    outcome = Outcome(given.name, given.path, [], given.test.pass_rate)
    with ApiClient(connection) as client:
        for _ in range(given.test.runs):
            outcome.runs.append(_run_once(given, model, client, configuration))
            if outcome.runs[-1].skipped_because is not None:
                break
    return outcome


def _run_once(
    given: _Given, model: str | None, client: "ApiClient", configuration: "Configuration"
) -> "RunOutcome":
    from stigmer_cli.agent_tests.checks import failures
    from stigmer_cli.agent_tests.report import RunOutcome
    from stigmer_contract.error_codes import ErrorCode

    started = time.monotonic()
    execution_id: str | None = None
    with _workspace(given) as workspace:
        try:
            execution = _start(given, model, client, configuration, workspace)
            execution_id = execution.execution_id
            execution, events = wait_for_end(client, execution_id, _timeout(given.test))
            ended = _ended(client, execution, events, workspace)
            if execution.error is not None and execution.error.code is ErrorCode.MODEL_NOT_CONFIGURED:
                return RunOutcome(execution_id, [], time.monotonic() - started, execution.error.message)
            if given.test.expect.commands:
                ended = replace(ended, commands=_run_commands(given.test, client, execution))
            found = failures(given.test, ended)
        except StigmerError as error:
            found = [error.message]
    return RunOutcome(execution_id, found, time.monotonic() - started, None)


@contextmanager
def _workspace(given: _Given) -> Generator[Path]:
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
    given: _Given, model: str | None, client: "ApiClient", configuration: "Configuration", workspace: Path
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
    deadline = time.monotonic() + timeout_seconds
    reason: str | None = None
    while not (execution := client.get_execution(execution_id)).phase.is_terminal:
        waits, is_over = waits_for_person(execution.waiting_for), time.monotonic() > deadline
        if reason is None and (waits or is_over):
            reason = "it waits, and a test has nobody to ask" if waits else "the test's time is over"
            client.cancel_execution(execution_id, reason)
            deadline = time.monotonic() + END_SECONDS
        elif reason is not None and is_over:
            stands = f": {execution.standing_reason}" if execution.standing_reason else ""
            within = f"within {END_SECONDS:.0f} s of being cancelled"
            raise StigmerError(f"{reason}, and the execution has not ended {within}{stands}")
        time.sleep(POLL_SECONDS)
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


test.add_command(add)
