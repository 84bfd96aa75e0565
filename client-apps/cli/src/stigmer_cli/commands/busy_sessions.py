"""A prompt to a session whose execution has not ended: wait, give up, stop that, or say it to that."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from stigmer_cli.api_client import ApiClient, follow_events
from stigmer_cli.commands.references import short_id
from stigmer_cli.errors import CallRefused, Interrupted
from stigmer_cli.output import is_terminal, print_note, sanitize, write_stderr
from stigmer_contract.api import ExecutionResource
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.phases import ExecutionPhase

Busy: TypeAlias = Literal["wait", "reject", "interrupt", "send"]
CHOICES: Final[tuple[Busy, ...]] = get_args(Busy)
_HEAD_CHARACTERS: Final = 40


@dataclass(frozen=True)
class Begun:
    """The execution that has the prompt."""

    execution: ExecutionResource
    after: int = 0
    """What stood in its log before."""


def begin(
    client: ApiClient,
    create: Callable[[], ExecutionResource],
    prompt: str,
    session_id: str | None,
    busy: Busy | None,
    *,
    can_send: bool,
) -> Begun:
    """Start an execution by `create`, or do what the person wants where its session has another in hand.

    Args:
        client: of the server.
        create: starts it, unless the session is busy.
        prompt: what is to be said.
        session_id: None: a new session, which nothing is in the way of.
        busy: what the person wants; None: they are asked where there is a terminal.
        can_send: whether the prompt may be a message, and nothing else is wanted besides.

    Raises:
        CallRefused: the execution cannot be started.
        Interrupted: the person wants none of it.
    """
    while True:
        try:
            return Begun(create())
        except CallRefused as refusal:
            if refusal.code != ErrorCode.SESSION_BUSY or session_id is None:
                raise
            found = _find_unended(client, session_id)
            if found is None:
                continue  # it has ended meanwhile
            wanted = busy or _ask(found, can_send=can_send)
            match wanted:
                case "reject":
                    raise _refused(refusal, found, can_send=can_send) from refusal
                case "send":
                    sent = client.send_message(found.execution_id, prompt)
                    execution = client.get_execution(sent.execution_id)
                    return Begun(execution, 0 if sent.starts_execution else sent.sequence - 1)
                case "interrupt":
                    _cancel(client, found.execution_id)
                case "wait":
                    print_note(f"waiting until {short_id(found.execution_id)} has ended …")
                    if found.phase is ExecutionPhase.WAITING:
                        print_note("it waits itself; `stigmer inbox` shows whether for you")
            _wait_for_end(client, found)


def _find_unended(client: ApiClient, session_id: str) -> ExecutionResource | None:
    newest = client.list_executions(1, session_id=session_id)
    return newest[0] if newest and not newest[0].phase.is_terminal else None


def _cancel(client: ApiClient, execution_id: str) -> None:
    print_note(f"stopping {short_id(execution_id)} …")
    try:
        client.cancel_execution(execution_id, "interrupted by a new prompt")
    except CallRefused as refusal:
        if refusal.code != ErrorCode.EXECUTION_ENDED:
            raise


def _wait_for_end(client: ApiClient, execution: ExecutionResource) -> None:
    try:
        for _ in follow_events(client.transport, execution.execution_id, after=execution.last_sequence):
            pass
    except KeyboardInterrupt as error:
        raise Interrupted("no longer waiting; nothing was started") from error


def _refused(refusal: CallRefused, found: ExecutionResource, *, can_send: bool) -> CallRefused:
    choices = "wait, interrupt or send" if can_send else "wait or interrupt"
    hint = f"pass --busy {choices}; `stigmer executions follow {found.execution_id}` shows what it does"
    return CallRefused(refusal.message, hint, code=refusal.code, status=refusal.status)


def _ask(found: ExecutionResource, *, can_send: bool) -> Busy:
    """What the person at the terminal wants; without one the prompt is rejected."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return "reject"
    head = " ".join(sanitize(found.input_head or "").split())[:_HEAD_CHARACTERS]
    doing = "waits" if found.phase is ExecutionPhase.WAITING else "works"
    print_note(f"The session's {short_id(found.execution_id)} still {doing}: {head}")
    sends = ", s: say it to that" if can_send else ""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        keys = "w/i/s" if can_send else "w/i"
        write_stderr(f"w: wait, i: stop it{sends}. [{keys}, Enter: neither] ")
        # Not stdin, which may hold more than this answer.
        with open("/dev/tty", encoding="utf-8", errors="replace") as terminal:  # noqa: PTH123 - a device
            answer = terminal.readline().strip().lower()[:1]
    except OSError:  # no controlling terminal
        return "reject"
    except KeyboardInterrupt:
        answer = ""
    finally:
        signal.signal(signal.SIGINT, before)
    match answer:
        case "w":
            return "wait"
        case "i":
            return "interrupt"
        case "s" if can_send:
            return "send"
        case _:
            raise Interrupted("nothing was started")
