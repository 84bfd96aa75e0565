"""What needs no server: help, usage errors, validate, init, completion, defects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_harness import Command
from stigmer_cli import __main__ as entry
from stigmer_cli import cli

HELP_TEXTS = Path(__file__).parent / "help_texts.txt"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command without any server."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STIGMER_HOME": str(tmp_path / "home"),
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
    }
    return Command(environment, tmp_path)


def _help_texts() -> str:
    """The help of each command of this task's, one after the other."""
    import click

    texts: list[str] = []

    def collect(group: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(
            group,
            info_name=name,
            parent=parent,
            terminal_width=90,
            help_option_names=["-h", "--help"],
        )
        texts.append(f"$ {context.command_path} --help\n{group.get_help(context)}\n")
        if isinstance(group, click.Group):
            for child in group.list_commands(context):
                found = group.get_command(context, child)
                assert found
                collect(found, child, context)

    collect(cli.root, "stigmer", None)
    return "\n".join(texts)


def test_help_texts_are_as_they_were_reviewed() -> None:
    """After a wanted change: delete the file, run this test, and review the difference."""
    texts = _help_texts()
    if not HELP_TEXTS.exists() and not os.environ.get("CI"):
        HELP_TEXTS.write_text(texts, encoding="utf-8")

    assert texts == HELP_TEXTS.read_text(encoding="utf-8")


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    import click

    context = click.Context(cli.root)
    for section in cli.SECTIONS.values():
        for name, entry_ in section.items():
            command = cli.root.get_command(context, name)
            assert command
            assert command.help
            assert command.help.strip().splitlines()[0] == entry_.summary


def test_every_command_shows_an_example() -> None:
    import click

    def check(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child
                check(child, f"{path} {name}")
        else:
            assert (command.epilog or "").startswith(f"Example: {path}"), path

    check(cli.root, "stigmer")


def test_help_imports_nothing_heavy(command: Command) -> None:
    script = "import sys; from stigmer_cli.__main__ import run; run(['--help']); print(*sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", script],
        env=command.environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )

    loaded = set(result.stdout.splitlines()[-1].split())
    heavy = {"asyncio", "httpx", "http.client", "psutil", "pydantic", "rich", "ssl", "temporalio", "yaml"}
    assert loaded & heavy == set()


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["rum"], "no such command 'rum'", "did you mean `run`?"),
        (["executions", "x"], "no such command 'x'", "run `stigmer executions --help`"),
        (["run"], "missing argument 'AGENT'", "run `stigmer run --help`"),
        (
            ["run", "a", "b", "--sesion", "x"],
            "no such option '--sesion'",
            "did you mean `--session`?",
        ),
        (
            ["run", "missing.yaml", "Hi"],
            "could not read the manifest 'missing.yaml': No such file or directory",
            None,
        ),
        (["run", "-", "-"], "could not read both the manifest and the prompt from standard input", None),
        (["run", "agent", " "], "the prompt is empty", "say what the agent shall do"),
        (
            ["run", "agent", "Hi", "--model", "gpt-5"],
            "--model: 'gpt-5' is not a model; write provider:name, where provider is one of openai, "
            "anthropic, ollama, openai-compatible, replay, or an endpoint of `llm.endpoints`",
            None,
        ),
        (
            ["run", "agent", "Hi", "--workspace", "nowhere"],
            "could not use the workspace 'nowhere': there is no such directory",
            "make it, or name another one",
        ),
        (
            ["run", "agent", "Hi", "--record", "nowhere/x.yaml"],
            "could not write the cassette 'nowhere/x.yaml': it must be a file in a folder that exists",
            None,
        ),
        (
            ["run", "agent", "Hi", "--record", "x.yaml", "--detach"],
            "could not record an execution that is not waited for",
            "leave out --detach",
        ),
        (
            ["validate", "-f", "."],
            "could not find a manifest in the folder '.'",
            "run `stigmer init` to write a first one",
        ),
        (
            ["init", "My Agent"],
            "could not name an agent 'My Agent': lower-case letters, digits and hyphens, at most 63",
            "try `stigmer init my-agent`",
        ),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(
    command: Command, arguments: list[str], error: str, hint: str | None
) -> None:
    result = command.run(*arguments, text="")

    expected = f"error: {error}\n" + (f"\nhint: {hint}\n" if hint else "")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)
    assert not (command.folder / "home").exists()


def test_what_is_not_supported_yet_is_refused_and_named(command: Command) -> None:
    command.run("init", "helper")
    manifest = command.folder / "helper/agent.yaml"
    manifest.write_text(manifest.read_text(encoding="utf-8") + "  subAgents: [a]\n", encoding="utf-8")

    skills = command.run("run", "./helper", "Hi")

    assert (skills.exit_code, skills.stderr) == (
        1,
        "error: could not run 'helper/agent.yaml': spec.subAgents is not supported yet\n",
    )


def test_init_writes_a_manifest_that_is_valid_and_never_overwrites_one(command: Command) -> None:
    written = command.run("init", "report-writer")
    valid = command.run("validate", "-f", "report-writer")
    again = command.run("init", "report-writer")

    assert (written.exit_code, written.stdout) == (0, "report-writer/agent.yaml\n")
    assert written.stderr == "next: edit it, then run `stigmer run ./report-writer 'Who are you?'`\n"
    assert valid.stdout == "report-writer/agent.yaml: agent report-writer is valid\n"
    assert (again.exit_code, again.stderr) == (
        1,
        "error: could not write 'report-writer/agent.yaml': it exists already\n\n"
        "hint: choose another name, or edit that file\n",
    )


def test_init_names_the_agent_after_the_folder(command: Command) -> None:
    folder = command.folder / "My Reports"
    folder.mkdir()

    Command(command.environment, folder).run("init")

    assert "  name: my-reports\n" in (folder / "agent.yaml").read_text(encoding="utf-8")


def test_validate_tells_every_problem_of_every_file(command: Command) -> None:
    (command.folder / "one.yaml").write_text("kind: Agnt\n", encoding="utf-8")
    (command.folder / "two.yml").write_text("a: [\n", encoding="utf-8")

    result = command.run("validate", "-f", ".")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        """\
one.yaml:1:1: apiVersion: is missing
  hint: add `apiVersion: agentic.stigmer.ai/v1`: Version of this format
one.yaml:1:1: metadata: is missing
  hint: add `metadata`
one.yaml:1:1: spec: is missing
  hint: add `spec`
one.yaml:1:7: kind: must be Agent, not 'Agnt'
two.yml:2:1: expected the node content, but found '<stream end>'
error: 5 problems in 'one.yaml', 'two.yml'
"""
    )


def test_validate_checks_the_cassette_too(command: Command) -> None:
    command.run("init", "player")
    manifest = command.folder / "player/agent.yaml"
    text = manifest.read_text(encoding="utf-8").replace(
        "# model: openai:gpt-5", "model: replay:cassette.yaml"
    )
    manifest.write_text(text, encoding="utf-8")

    missing = command.run("validate", "-f", "player")
    (command.folder / "player/cassette.yaml").write_text("version: 2\n", encoding="utf-8")
    wrong = command.run("validate", "-f", "player")

    path = command.folder / "player/cassette.yaml"
    assert missing.stderr == f"error: could not read the cassette '{path}': No such file or directory\n"
    assert (wrong.exit_code, wrong.stderr.partition("cassette.yaml: ")[0]) == (
        2,
        f"error: {path.parent}/",
    )


def test_two_files_may_not_name_the_same_agent(command: Command) -> None:
    for folder in ("a", "b"):
        command.run("init", folder)
    text = (command.folder / "a/agent.yaml").read_text(encoding="utf-8")
    (command.folder / "b/agent.yaml").write_text(text, encoding="utf-8")

    result = command.run("validate", "-f", ".", "--json")

    assert (result.exit_code, result.stderr) == (
        2,
        "error: 'a/agent.yaml' and 'b/agent.yaml' both name the agent 'a'\n",
    )


def test_a_file_of_several_agents_cannot_be_run(command: Command) -> None:
    text = "".join(
        "---\napiVersion: agentic.stigmer.ai/v1\nkind: Agent\n"
        f"metadata: {{name: {name}}}\nspec: {{instructions: x}}\n"
        for name in ("a", "b")
    )
    (command.folder / "both.yaml").write_text(text, encoding="utf-8")

    assert command.run("validate", "-f", "both.yaml").exit_code == 0
    result = command.run("run", "both.yaml", "Hi")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: could not choose an agent: 'both.yaml' holds several (a, b)\n\n"
        "hint: run `stigmer apply -f both.yaml`, then `stigmer run NAME`\n",
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(command: Command, shell: str) -> None:
    result = command.run("completion", shell)

    assert (result.exit_code, result.stderr) == (0, "")
    assert "_STIGMER_COMPLETE" in result.stdout


def test_commands_are_completed(command: Command) -> None:
    environment = {**command.environment, "_STIGMER_COMPLETE": "bash_complete"}
    completing = Command(
        {**environment, "COMP_WORDS": "stigmer executions fol", "COMP_CWORD": "2"}, command.folder
    )

    assert completing.run().stdout == "plain,follow\n"


def test_the_version_is_told(command: Command) -> None:
    result = command.run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("stigmer 0.")


def test_a_defect_leaves_one_line_and_a_crash_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("STIGMER_HOME", str(tmp_path))
    monkeypatch.delenv("STIGMER_DEBUG", raising=False)

    def fail(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cli.root, "main", fail)

    assert entry.run(["run", "agent", "a secret prompt"]) == 1

    (log,) = (tmp_path / "logs").iterdir()
    assert capsys.readouterr().err == (
        f"error: a defect in stigmer: KeyError: 'x'\n\nhint: report this with the file {log}\n"
    )
    text = log.read_text(encoding="utf-8")
    assert "KeyError: 'x'" in text
    assert "secret prompt" not in text
    assert log.stat().st_mode & 0o777 == 0o600

    monkeypatch.setattr(cli.root, "main", fail)
    assert entry.run(["--debug", "run"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_json_of_validate_is_one_document(command: Command) -> None:
    command.run("init", "a")

    result = command.run("validate", "-f", "a/agent.yaml", "--json")

    assert json.loads(result.stdout) == [{"name": "a", "file": "a/agent.yaml", "valid": True}]
