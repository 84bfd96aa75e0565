"""`stigmer init`: writes a first manifest, with the fields that most agents want and a word on each."""

import re
from pathlib import Path

import click

_TEMPLATE = """\
# An agent. Try it:  stigmer run {path} "Who are you, and what can you do here?"
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata:
  # Lower-case letters, digits and hyphens.
  name: {name}
spec:
  description: Answers questions about the files in its workspace.

  # What the agent is told before anything else.
  instructions: |
    You help with the files in your workspace.
    Look at the files before you answer, and say which of them you looked at.

  # provider:name. Left out: STIGMER_LLM_PROVIDER and STIGMER_LLM_MODEL, else a running Ollama.
  # model: openai:gpt-5

  # What it can do: run commands, read and write files. Both stay in its workspace.
  tools: [shell, files]

  # What one execution may use at most.
  limits:
    turns: 50
    duration: 30m
    # costUsd: 1.00
"""


@click.command(epilog="Example: stigmer init report-writer")
@click.argument("name", required=False)
def init(name: str | None) -> None:
    """Write a first manifest to start from.

    With NAME: NAME/agent.yaml. Without: agent.yaml in this folder, named after it. An existing file stays
    as it is.
    """
    from stigmer_cli.errors import StigmerError, UsageError
    from stigmer_cli.output import print_line, print_note

    agent_name = name if name is not None else _name_after(Path.cwd())
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", agent_name):
        raise UsageError(
            f"could not name an agent {agent_name!r}: lower-case letters, digits and hyphens, at most 63",
            f"try `stigmer init {_slug(agent_name)}`",
        )
    folder = Path(name) if name is not None else Path()
    file = folder / "agent.yaml"
    target = f"./{folder}" if name is not None else "."
    try:
        folder.mkdir(exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(_TEMPLATE.format(name=agent_name, path=target))
    except FileExistsError as error:
        raise StigmerError(
            f"could not write {str(file)!r}: it exists already", "choose another name, or edit that file"
        ) from error
    except OSError as error:
        raise StigmerError(f"could not write {str(file)!r}: {error.strerror}") from error
    print_line(str(file))
    print_note(f"next: edit it, then run `stigmer run {target} 'Who are you?'`")


def _name_after(folder: Path) -> str:
    return _slug(folder.name)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "agent"
