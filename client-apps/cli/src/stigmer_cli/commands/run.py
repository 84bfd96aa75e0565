"""`stigmer run`: starts the stack where it is not running, runs an agent, and shows its work."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from stigmer_cli.commands.completions import (
    complete_directories,
    complete_files,
    complete_runnable,
    complete_sessions,
)
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.attaching import FileToAttach
    from stigmer_cli.commands.busy_sessions import Busy
    from stigmer_cli.commands.manifest_files import CassetteFile, ManifestFile
    from stigmer_cli.config import Configuration
    from stigmer_contract.api import AgentResource, ExecutionResource
    from stigmer_contract.manifest import AgentManifest


@dataclass(frozen=True)
class Order:
    """What the person asked for, as far as it can be known without the server."""

    agent_name: str | None
    """Of an applied agent; else `manifest` is given."""
    manifest: "AgentManifest | None"
    prompt: str
    model: str | None
    """`--model`."""
    cassette: "CassetteFile | None"
    """What a model `replay:FILE` of flag or manifest means."""
    session_id: str | None
    workspace: Path | None
    packs: "Sequence[bytes]" = ()
    """Files that the manifest's tools need."""
    approve: Literal["ask", "allow", "deny"] | None = None
    """`--approve`."""
    attachments: "Sequence[FileToAttach]" = ()
    """Files that go with the prompt."""
    snapshots: bool | None = None
    """`--snapshots`."""


@click.command(epilog="Example: stigmer run ./report-writer 'Summarise sales.csv' --workspace .")
@click.argument("agent", shell_complete=complete_runnable)
@click.argument("prompt", required=False)
@click.option(
    "--prompt-file",
    metavar="FILE",
    help="Read the prompt from a file; - is standard input.",
    shell_complete=complete_files,
)
@click.option(
    "--session",
    "session_id",
    metavar="ID",
    help="Go on with this conversation.",
    shell_complete=complete_sessions,
)
@click.option(
    "--attach",
    "-a",
    "attached",
    metavar="FILE",
    multiple=True,
    help="Give the agent this file with the prompt; may be given again.",
    shell_complete=complete_files,
)
@click.option("--continue", "goes_on", is_flag=True, help="Go on with the last one of this directory.")
@click.option(
    "--busy",
    type=click.Choice(["wait", "reject", "interrupt", "send"]),
    help="Where the conversation is at work: wait for it, refuse, stop it, or say PROMPT to it.",
)
@click.option("--model", metavar="PROVIDER:NAME", help="Use this model, whatever the manifest says.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as one JSON object a line.")
@click.option("--plain", is_flag=True, help="Show the answer as the model wrote it, not rendered.")
@click.option("--detach", is_flag=True, help="Print the execution's id and do not wait.")
@click.option("--wait", is_flag=True, help="Without a terminal: wait on where a person has to decide.")
@click.option(
    "--approve",
    type=click.Choice(["ask", "allow", "deny"]),
    help="What becomes of tool calls at the least, whatever the agent's rules say.",
)
@click.option(
    "--workspace",
    metavar="DIR",
    help="Let the agent work in this directory.",
    shell_complete=complete_directories,
)
@click.option(
    "--snapshots/--no-snapshots",
    default=None,
    help="Keep what the files are around each step that may change them; default: not with --workspace.",
)
@click.option(
    "--record",
    metavar="FILE",
    help="Write a cassette that plays this execution again.",
    shell_complete=complete_files,
)
@click.option(
    "--compare",
    "compared",
    metavar="MODEL,MODEL…",
    help="Run the task with each of these models, side by side, and compare what became of it.",
)
def run(
    agent: str,
    prompt: str | None,
    prompt_file: str | None,
    session_id: str | None,
    attached: tuple[str, ...],
    goes_on: bool,
    busy: "Busy | None",
    model: str | None,
    as_json: bool,
    plain: bool,
    detach: bool,
    wait: bool,
    approve: Literal["ask", "allow", "deny"] | None,
    workspace: str | None,
    snapshots: bool | None,
    record: str | None,
    compared: str | None,
) -> None:
    """Run an agent on a task and watch it work.

    AGENT is a manifest, a folder with an agent.yaml, or the name of an applied agent. PROMPT is the task;
    - reads it from standard input, and --prompt-file from a file. On a terminal, without a prompt, a
    conversation begins (`stigmer chat`). The answer goes to stdout, everything
    else to stderr. Ctrl-C asks whether to cancel the execution or to let it go on without you; a closed
    window lets it go on, and SIGTERM cancels it.

    Pictures and PDFs that are attached go to the model where it takes them, short texts always; other files
    are laid into the workspace. On a terminal `@FILE` in PROMPT attaches a file, too.

    A conversation has one execution at a time. Where another one is at work, you are asked what to do, or,
    without a terminal, the prompt is refused; --busy says it beforehand.

    With --compare each model works in a session of its own, and in a copy of the directory of --workspace.

    What the agent asks is asked at the terminal. Without one the command ends with exit code 4, unless --wait
    is given, and the execution waits on: `stigmer inbox` shows what for.
    """
    if detach and record:
        raise UsageError("could not record an execution that is not waited for", "leave out --detach")
    models: Sequence[str] = ()
    if compared is not None:
        if model or session_id or goes_on or busy or detach or record:
            raise UsageError(
                "--compare names the models and begins sessions of its own",
                "leave out --model, --session, --continue, --busy, --detach and --record",
            )
        from stigmer_cli.commands.comparing import read_models

        models = read_models(compared)
    if session_id is not None and goes_on:
        raise UsageError("there is a --session, and --continue too")
    if busy == "send" and (model or approve or record or attached):
        raise UsageError("--busy send says something to an execution, which goes on as it was started")
    if (
        not models
        and prompt is None
        and prompt_file is None
        and not attached
        and _can_talk(as_json, detach, record)
    ):
        from stigmer_cli.commands.chat import ChatRequest, start_chat

        start_chat(ChatRequest(agent, session_id, goes_on, model, workspace, approve))
        return
    from stigmer_cli.commands.recording import check_record_file, record_execution

    record_file = check_record_file(record)
    order = replace(
        read_order(agent, prompt, prompt_file, model, session_id, workspace),
        approve=approve,
        snapshots=snapshots,
        attachments=_read_attachments(attached, prompt),
    )

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_cli.stack import UNCONTAINED_NOTE, find_other_build, find_running, why_uncontained

    configuration = load_configuration(os.environ)
    if order.workspace:
        from stigmer_cli.workspaces import identify_workspace

        identify_workspace(configuration, order.workspace)
    model = None if models else choose_order_model(order, configuration)
    is_told = configuration.server_endpoint is not None or find_running(configuration) is None  # by the start
    connection = connect(configuration)
    if not is_told and (reason := why_uncontained(configuration)) is not None:
        print_note(f"note: {UNCONTAINED_NOTE}: {reason}")
    if not is_told and (reason := find_other_build(configuration)) is not None:
        print_note(f"warning: {reason}")
    with ApiClient(connection) as client:
        if models:
            from stigmer_cli.commands.comparing import compare_models

            if not compare_models(order, models, client, configuration, as_json=as_json):
                raise click.exceptions.Exit(1)
            return
        from stigmer_cli.commands.busy_sessions import begin
        from stigmer_cli.commands.last_sessions import find_session, remember_last_session

        found = find_session(client, configuration.home, order.session_id, goes_on=goes_on)
        order = replace(order, session_id=found)
        begun = begin(
            client,
            lambda: create_execution(order, model, client, configuration),
            order.prompt,
            found,
            busy,
            can_send=not (order.model or approve or record or order.attachments),
        )
        execution = begun.execution
        remember_last_session(configuration.home, execution.session_id)
        if detach:
            if as_json:
                print_json(execution.model_dump(mode="json"))
            else:
                print_line(execution.execution_id)
                _tell_address(client, execution)
            return
        _follow(client, execution, begun.after, as_json=as_json, plain=plain, wait=wait)
        if record_file:
            record_execution(client, execution.execution_id, record_file)


def _tell_address(client: "ApiClient", execution: "ExecutionResource") -> None:
    """Where a person can watch the execution that is left alone."""
    from stigmer_cli.output import is_terminal, print_note

    if is_terminal(sys.stderr):
        endpoint = client.transport.endpoint.rstrip("/")
        print_note(f"in the console: {endpoint}/console/executions/{execution.execution_id}")


def _read_attachments(attached: "Sequence[str]", prompt: str | None) -> "Sequence[FileToAttach]":
    """The files that the person names: by option, and in the prompt where they have typed it."""
    from stigmer_cli.commands.attaching import find_mentions, read_attachments
    from stigmer_cli.output import is_terminal, print_note

    # What a program puts together may hold words of anybody's, which must not give files away.
    mentioned = find_mentions(prompt or "") if is_terminal(sys.stdin) and is_terminal(sys.stderr) else []
    if mentioned:
        print_note(f"attached: {', '.join(mentioned)}")
    return read_attachments([*attached, *mentioned])


def _can_talk(as_json: bool, detach: bool, record: str | None) -> bool:
    """Whether a person sits there, and wants nothing that a conversation does not give."""
    from stigmer_cli.output import is_terminal

    is_person = is_terminal(sys.stdin) and is_terminal(sys.stdout) and is_terminal(sys.stderr)
    return is_person and not (as_json or detach or record)


def read_order(
    agent: str,
    prompt: str | None,
    prompt_file: str | None,
    model: str | None,
    session_id: str | None,
    workspace: str | None,
) -> Order:
    from stigmer_cli.commands.manifest_files import (
        STDIN,
        check_supported,
        names_a_path,
        read_agent,
        read_cassette,
    )
    from stigmer_contract.model_names import split_model

    if agent == STDIN and STDIN in (prompt, prompt_file):
        raise UsageError("could not read both the manifest and the prompt from standard input")
    if model is not None:
        try:
            split_model(model)
        except ValueError as error:
            raise UsageError(f"--model: {error}") from error
    directory = None
    if workspace is not None:
        from stigmer_cli.workspaces import find_workspace

        directory = find_workspace(workspace)
    manifest, packs = None, ()
    cassette = read_cassette(model, Path.cwd())
    if names_a_path(agent):
        file = read_agent(agent)
        check_supported(file, "run")
        manifest, packs = pack_agent(file)
        if model is None:
            cassette = read_cassette(manifest.spec.model, file.folder)
    from stigmer_cli.commands.prompts import read_prompt

    text = read_prompt(prompt, prompt_file)
    return Order(None if manifest else agent, manifest, text, model, cassette, session_id, directory, packs)


def pack_agent(file: "ManifestFile") -> "tuple[AgentManifest, Sequence[bytes]]":
    """The agent of a file as the server takes it, and the packs that it names."""
    from stigmer_cli.commands.manifest_files import names_files

    if not names_files(file.manifest):
        return file.manifest, ()
    from stigmer_cli.commands.agent_packs import pack_agents

    [packed] = pack_agents([file])
    return packed.manifest, packed.packs


def choose_order_model(order: Order, configuration: "Configuration") -> str | None:
    """What can be known before the stack is started; an applied agent's model is known afterwards."""
    if order.model or order.cassette or order.manifest is None or order.manifest.spec.model:
        return order.model
    from stigmer_cli.commands.model_choice import choose_model

    return choose_model(configuration)


def find_applied(client: "ApiClient", name: str) -> "AgentResource":
    """The applied agent of this name.

    Raises:
        StigmerError: there is none.
    """
    agent = client.find_agent(name)
    if agent is None:
        raise StigmerError(
            f"could not run {name!r}: no agent of that name is applied",
            "run `stigmer agents list` to see which are, or name a manifest's file or folder",
        )
    return agent


def create_execution(
    order: Order, model: str | None, client: "ApiClient", configuration: "Configuration"
) -> "ExecutionResource":
    from stigmer_cli.commands.attaching import upload_attachments
    from stigmer_contract.api import CreateExecution

    for pack in order.packs:
        client.upload_blob(pack)
    if order.cassette:
        model = f"replay:sha256:{client.upload_blob(order.cassette.content)}"
    if order.agent_name is not None:
        agent = find_applied(client, order.agent_name)
        if model is None and agent.manifest.spec.model is None:
            from stigmer_cli.commands.model_choice import choose_model

            model = choose_model(configuration)
    request = CreateExecution(
        agent=order.agent_name,
        manifest=order.manifest,
        input=order.prompt,
        session_id=order.session_id,
        approve=order.approve,
        snapshots=order.snapshots,
        workspace=str(order.workspace) if order.workspace else None,
        model=model,
    )
    if order.attachments:
        request = request.model_copy(update={"attachments": upload_attachments(client, order.attachments)})
    return client.create_execution(request)


def _follow(
    client: "ApiClient",
    execution: "ExecutionResource",
    after: int,
    *,
    as_json: bool,
    plain: bool,
    wait: bool,
) -> None:
    from stigmer_cli.commands.following import Following
    from stigmer_cli.rendering.execution_view import ExecutionView
    from stigmer_cli.rendering.json_view import JsonView
    from stigmer_cli.rendering.screen import Screen

    if as_json:
        view = JsonView(sys.stdout, execution.execution_id)
    else:
        view = ExecutionView(Screen(sys.stdout, sys.stderr, plain=plain), client.load_payload)
    Following(client, execution.execution_id, view, cancels=True, asks=not as_json, waits=wait).follow(after)
