"""Sessions of `run` and `chat` that ask people, at 60, 100 and 200 columns, as they were looked at.

What is typed and what comes of it are let happen one after the other: their order is else of chance.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli_harness import Command, Leg, Server, Terminal, wait_for
from recorded_screens import Screens
from stigmer_contract import events
from stigmer_contract.api import ResolveInput
from stigmer_contract.identifiers import INPUT_PREFIX
from stigmer_contract.inputs import Approval, InputKind, InputOutcome, Question, wait_kind_of
from stigmer_contract.waits import WaitReason

RECORDED = Path(__file__).parent / "recorded_asking"
COLUMNS = (60, 100, 200)

DIFF = """\
--- a/reports/2026/sales.md
+++ b/reports/2026/sales.md
@@ -1,3 +1,4 @@
 # Sales
-The north sold most.
+The **north** sold most: 日本語, and this line goes on until it has to be wrapped somewhere, be it wide.
+The south follows.
 See the table.
"""
WRITE = Approval(
    toolset="files",
    tool="write_file",
    arguments={"path": "reports/2026/sales.md", "content": "# Sales\n…"},
    rule="spec.approval[0]",
    reason="rule 1: write_file",
    diff=DIFF,
)
PUSH = Approval(
    toolset="shell",
    tool="run_command",
    arguments={"command": "git push --force origin main && echo 'pushed'"},
    reason="rule 2: git push*",
    kind_rule='{"tool":"shell","when":"git push *","policy":"allow"}',
)
WHICH = Question(
    text="Which region shall the report begin with?\nI found two.", choices=["the north", "the south"]
)
FORM = Question(text="Where do you want to go?")
FIELDS: dict[str, object] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "The city"},
        "nights": {"type": "integer", "minimum": 1},
    },
    "required": ["city", "nights"],
}


class Session:
    """One terminal, and the executions that are seen in it."""

    def __init__(self, terminal: Terminal, server: Server, name: str) -> None:
        """`name` makes the ids of what is asked, which are on the screen: the same ones each time."""
        self.terminal = terminal
        self.server = server
        self.screens = Screens()
        self.newest_id = ""
        self._name = name
        self._asked = 0

    def look(self, title: str) -> None:
        """Remember the screen."""
        self.screens.take(title, self.terminal.screen)

    def ask(self, leg: Leg, content: Question | Approval, schema: dict[str, object] | None = None) -> None:
        """The leg asks, and waits."""
        requested = self._request(content, schema)
        waiting = [WaitReason(kind=wait_kind_of(requested.kind), key=requested.input_id)]
        ended = events.LegEnded(
            attempt=leg.grant.attempt,
            reason=events.LegEndReason.WAITING,
            waiting_for=waiting,
            seen=leg.client.get_execution(leg.execution_id).last_sequence,
        )
        leg.append(requested, ended)

    def _request(
        self, content: Question | Approval, schema: dict[str, object] | None
    ) -> events.InputRequested:
        self._asked += 1
        self.newest_id = f"{INPUT_PREFIX}_{self._name}{self._asked:06d}"
        is_question = isinstance(content, Question)
        return events.InputRequested.model_validate(
            {
                "input_id": self.newest_id,
                "kind": InputKind.QUESTION if is_question else InputKind.APPROVAL,
                "turn": 1,
                "call_id": f"call_{self._asked}",
                "tool": "ask_user" if isinstance(content, Question) else content.tool,
                "title": "asked",
                "content": {"kind": "inline", "value": content.model_dump(mode="json")},
                "answer_schema": schema if is_question else None,
            }
        )

    def answer(self, question: str, title: str, keys: str) -> None:
        """Look at a question of `run` once it stands below all else, and type."""
        self.terminal.wait_until(lambda screen: screen.endswith(question), repr(question))
        self.look(title)
        self.terminal.type(keys)

    def say(self, text: str) -> None:
        """Type a line of `chat`."""
        self.terminal.type(f"{text}\r")

    def wait_for_turns(self, number: int) -> None:
        """So many turns have ended in a `chat`."""
        self.terminal.wait_until(lambda screen: screen.count("tokens in") == number, f"{number} turns")


def a_run_that_asks_whether_calls_may_run(session: Session) -> None:
    terminal, server = session.terminal, session.server
    leg = server.take_execution()
    leg.answer(1, "I write the report, and push it.")
    session.ask(leg, WRITE)
    session.answer("Run it? [y/n, Enter: later]", "about a file", "n\n")
    session.answer("Why not? The agent is told. [Enter: no reason]", "why not", "The south first.\n")
    terminal.wait_for("denied: The south first.")
    session.ask(server.take_execution(leg.execution_id), PUSH)
    session.answer("Run it? [y/n, a: all of this kind, Enter: later]", "about a command", "a\n")
    terminal.wait_for("approved")
    session.ask(server.take_execution(leg.execution_id), PUSH)
    session.answer("Run it? [y/n, a: all of this kind, Enter: later]", "about the next one", "\n")
    terminal.wait_for("It waits.")
    server.client.resolve_input(session.newest_id, ResolveInput(outcome=InputOutcome.APPROVED))
    terminal.wait_until(lambda screen: screen.count("approved") == 2, "what was decided elsewhere")
    end(server.take_execution(leg.execution_id), "The push is done.")


def a_run_that_asks_questions(session: Session) -> None:
    terminal, server = session.terminal, session.server
    leg = server.take_execution()
    session.ask(leg, WHICH, schema={"type": "string"})
    session.answer("Which? [number or words, Enter: later]", "to choose", "2\n")
    terminal.wait_for("answered")
    session.ask(server.take_execution(leg.execution_id), FORM, schema=FIELDS)
    session.answer("city:", "the first field", "Bergen\n")
    session.answer("nights:", "the second field", "two\n")
    terminal.wait_for("is not JSON")
    session.answer("nights:", "the second field again", "2\n")
    terminal.wait_until(lambda screen: screen.count("answered") == 2, "both are answered")
    end(server.take_execution(leg.execution_id), "Two nights in Bergen.")


def a_chat_that_asks(session: Session) -> None:
    terminal, server = session.terminal, session.server
    session.say("Write the report.")
    leg = server.take_execution()
    leg.answer(1, "I write it.")
    session.ask(leg, WRITE)
    terminal.wait_for("waiting for an approval")
    session.say("y")
    terminal.wait_for("approved")
    schema: dict[str, object] = {"type": "string", "enum": ["the north", "the south"]}
    session.ask(server.take_execution(leg.execution_id), WHICH, schema=schema)
    terminal.wait_for("waiting for an answer")
    session.say("9")
    terminal.wait_for("that does not answer it")
    session.say("1")
    terminal.wait_for("answered")
    end(server.take_execution(leg.execution_id), "It begins with the north.")
    session.wait_for_turns(1)
    wait_for(lambda: not terminal.echoes, "the line")
    terminal.type("\x04")


def a_chat_that_is_stopped(session: Session) -> None:
    terminal, server = session.terminal, session.server
    session.say("Count to a million.")
    leg = server.take_execution()
    leg.answer(1, "One, two, three.")
    terminal.wait_for("One, two, three.")
    terminal.type("\x03")
    terminal.wait_for("stopping")
    wait_for(lambda: server.client.get_execution(leg.execution_id).cancel_requested, "the request to stop")
    leg.append(events.ExecutionCancelled())
    session.wait_for_turns(1)
    session.say("To three is enough.")
    end(server.take_execution(), "That was three.")
    session.wait_for_turns(2)
    session.say("/nothing")
    terminal.wait_for("there is no /nothing")
    wait_for(lambda: not terminal.echoes, "the line")
    terminal.type("\x04")


def end(leg: Leg, answer: str) -> None:
    leg.answer(2, answer)
    leg.complete(answer)


PLAYS: dict[Callable[[Session], None], tuple[str, ...]] = {
    a_run_that_asks_whether_calls_may_run: ("run", ".", "Hello"),
    a_run_that_asks_questions: ("run", ".", "Hello"),
    a_chat_that_asks: ("chat", "."),
    a_chat_that_is_stopped: ("chat", "."),
}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
def test_being_asked_looks_as_it_was_reviewed(
    unhurried: Command, server: Server, play: Callable[[Session], None], columns: int
) -> None:
    # The test's terminal does not answer where its cursor is.
    environment = unhurried.environment | {"PROMPT_TOOLKIT_NO_CPR": "1"}
    command = replace(unhurried, environment=environment)
    terminal = command.start_in_terminal(*PLAYS[play], columns=columns, lines=60)
    if PLAYS[play][0] == "chat":
        terminal.wait_for("›")
    place = list(PLAYS).index(play)
    session = Session(terminal, server, f"{place:017d}{columns:03d}")

    play(session)

    assert terminal.finish() == 0
    session.look("at the end")
    session.screens.compare(RECORDED / f"{play.__name__.replace('_', '-')}-{columns}.txt", columns)
