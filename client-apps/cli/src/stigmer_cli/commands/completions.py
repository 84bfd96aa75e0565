"""What the words of a command line can be completed to: names and ids of things, keys, paths.

A shell waits for this at every press of a key, and shows whatever is written: so it asks a running server
only, gives up soon, and says nothing of what went wrong.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient

PATIENCE_SECONDS: Final = 2.0
"""For everything, the server's answer among it."""
_REQUEST_SECONDS: Final = 1.0
_OFFERED: Final = 100
"""Of the newest executions and sessions."""


def complete_files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Files and folders, which the shell itself looks for."""
    return [CompletionItem(incomplete, type="file")]


def complete_directories(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Folders."""
    return [CompletionItem(incomplete, type="dir")]


def complete_agents(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Names of applied agents."""
    return _ask(
        lambda client: [
            (agent.name, agent.manifest.spec.description) for agent in client.list_agents(_OFFERED)
        ],
        incomplete,
    )


def complete_runnable(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """What `stigmer run` takes: a path, or an applied agent's name."""
    paths = complete_files(context, parameter, incomplete)
    is_path = incomplete.startswith((".", "~")) or "/" in incomplete
    return paths if is_path else [*complete_agents(context, parameter, incomplete), *paths]


def complete_executions(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Ids of executions, newest first: whole ones where one is begun, else as lists show them."""
    return _ask(
        lambda client: [
            (execution.execution_id, f"{execution.agent_name}: {execution.input_head or execution.phase}")
            for execution in client.list_executions(_OFFERED)
        ],
        incomplete,
        are_ids=True,
    )


def complete_sessions(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Ids of sessions, as those of executions."""
    return _ask(
        lambda client: [
            (session.session_id, f"{session.agent_name or 'empty'}: {session.input_head or ''}")
            for session in client.list_sessions(_OFFERED)
        ],
        incomplete,
        are_ids=True,
    )


def complete_inputs(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Ids of what waits for a person, as those of executions."""
    return _ask(
        lambda client: [(each.input_id, each.title) for each in client.list_inputs(_OFFERED)],
        incomplete,
        are_ids=True,
    )


def complete_secrets(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Names of secrets."""
    return _ask(lambda client: [(secret.name, "") for secret in client.list_secrets(_OFFERED)], incomplete)


def complete_tokens(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Names of tokens that hold."""
    return _ask(
        lambda client: [
            (token.name, f"of {token.owner}") for token in client.list_tokens(_OFFERED, with_revoked=False)
        ],
        incomplete,
    )


def complete_keys(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Keys of config.yaml."""
    from stigmer_cli.config import settings_by_field

    entries = [(setting.key, setting.description) for setting in settings_by_field().values()]
    return [_item(key, description) for key, description in entries if key.startswith(incomplete)]


def _ask(
    find: Callable[[ApiClient], list[tuple[str, str]]], incomplete: str, *, are_ids: bool = False
) -> list[CompletionItem[str]]:
    """What a running server knows; nothing where there is none, or where it is not to be had at once."""
    found = list[tuple[str, str]]()

    def work() -> None:
        try:
            from stigmer_cli.api_client import ApiClient
            from stigmer_cli.config import load_configuration
            from stigmer_cli.stack import find_running

            connection = find_running(load_configuration(os.environ))
            if connection is not None:
                with ApiClient(connection, timeout_seconds=_REQUEST_SECONDS) as client:
                    found.extend(find(client))
        except Exception:  # noqa: S110 - whatever it is, a person presses a key here
            pass

    # A name server may take longer to answer than any time-out of ours.
    thread = threading.Thread(target=work, daemon=True, name="completion")
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if thread.is_alive():
        return []
    if are_ids and "_" not in incomplete:
        from stigmer_cli.commands.references import short_id

        found = [(short_id(whole), description) for whole, description in found]
    return [_item(value, description) for value, description in found if value.startswith(incomplete)]


def _item(value: str, description: str) -> CompletionItem[str]:
    from stigmer_cli.output import sanitize

    return CompletionItem(value, help=" ".join(sanitize(description).split()) or None)
