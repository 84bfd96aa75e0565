"""`stigmer chat`: a conversation with an agent in the terminal."""

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import click

from stigmer_cli.commands.completions import complete_directories, complete_runnable, complete_sessions
from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.commands.run import Order

NO_PROMPT_YET = "(what is typed)"
"""Stands in an order until the person has said something."""


@dataclass(frozen=True)
class ChatRequest:
    """What a conversation begins with."""

    agent: str | None
    session: str | None = None
    """An id, or a part of one."""
    goes_on: bool = False
    """With the last session of this directory."""
    model: str | None = None
    workspace: str | None = None
    approve: Literal["ask", "allow", "deny"] | None = None
    """What becomes of tool calls at the least."""


@click.command(epilog="Example: stigmer chat ./report-writer --workspace .")
@click.argument("agent", required=False, shell_complete=complete_runnable)
@click.option(
    "--session", metavar="ID", help="Go on with this conversation.", shell_complete=complete_sessions
)
@click.option("--continue", "goes_on", is_flag=True, help="Go on with the last one of this directory.")
@click.option("--model", metavar="PROVIDER:NAME", help="Use this model, whatever the manifest says.")
@click.option(
    "--workspace",
    metavar="DIR",
    help="Let the agent work in this directory.",
    shell_complete=complete_directories,
)
def chat(
    agent: str | None, session: str | None, goes_on: bool, model: str | None, workspace: str | None
) -> None:
    """Talk with an agent.

    AGENT is a manifest, a folder with an agent.yaml, or the name of an applied agent; without one, --session
    or --continue says who goes on. What you type while it works is a message, which it reads before its next
    turn. Ctrl-C or Esc stops the turn, Ctrl-D leaves; /help shows the rest.
    """
    start_chat(ChatRequest(agent, session, goes_on, model, workspace))


def start_chat(request: ChatRequest) -> None:
    """Talk until the person leaves.

    Raises:
        UsageError: there is no terminal, or nobody to talk with.
    """
    from stigmer_cli.output import is_terminal

    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError("could not talk without a terminal", "give `stigmer run` a prompt")
    if request.agent is None and request.session is None and not request.goes_on:
        raise UsageError(
            "there is nobody to talk with",
            "name an agent (`stigmer agents list`, or a manifest's folder), or pass --continue",
        )
    if request.session is not None and request.goes_on:
        raise UsageError("there is a --session, and --continue too")
    order = None if request.agent is None else _read_order(request, request.agent)

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.commands.run import choose_order_model, find_applied
    from stigmer_cli.config import load_configuration, prepare_home

    configuration = load_configuration(os.environ)
    prepare_home(configuration)
    if order is not None and order.workspace:
        from stigmer_cli.workspaces import identify_workspace

        identify_workspace(configuration, order.workspace)
    model = None if order is None else choose_order_model(order, configuration)
    with ApiClient(connect(configuration)) as client:
        from stigmer_cli.commands.chat_line import ChatLine
        from stigmer_cli.commands.conversation import Conversation
        from stigmer_cli.commands.last_sessions import find_session

        if order is not None and order.agent_name is not None:
            find_applied(client, order.agent_name)  # rather now than behind the first thing that is said
        session_id = find_session(client, configuration.home, request.session, goes_on=request.goes_on)
        conversation = Conversation(client, configuration, order, model, session_id)
        ChatLine(conversation, configuration.home / "chat_history").run()


def _read_order(request: ChatRequest, agent: str) -> "Order":
    from stigmer_cli.commands.run import read_order

    order = read_order(agent, NO_PROMPT_YET, None, request.model, None, request.workspace)
    return replace(order, approve=request.approve)
