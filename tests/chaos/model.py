"""The scripted model of a chaos run: what executions are told to do, what goes wrong, and who asked when."""

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass
from typing import Final

from chaos.plan import Plan, Work
from model_server import Fault, FaultKind, ModelServer, Request, ScriptedCall, ScriptedModel, ScriptedTurn
from model_wire_formats import Question, WireFormat, read_question

MARKS_FILE: Final = "marks.txt"
"""In each workspace: what its commands did."""
FAULT_SHARE: Final = 0.06
"""Of all requests."""
_FAULTS: Final[tuple[FaultKind, ...]] = ("status", "cut", "end_early", "malformed", "error_event")
_WORDS: Final = 5
"""Of each answer's text."""


@dataclass
class Asking:
    """One request for an answer."""

    conversation: str
    turn: int
    runner: str
    """Whose it was."""
    began_at: float
    """On the monotonic clock, as all times here."""
    ended_at: float | None = None
    fault: FaultKind | None = None
    """What went wrong by the model's own fault."""
    is_answered: bool = False
    """Whether the answer was sent to its end."""

    @property
    def is_paid(self) -> bool:
        """Whether a provider would charge for it: it was not refused."""
        return self.fault != "status"


class ChaosScript(ScriptedModel):
    """Executions that leave a mark before and after each command, and faults that a seed decides."""

    def __init__(self) -> None:
        """Knows no execution yet."""
        super().__init__(turns=[ScriptedTurn(text="Nothing is known of this conversation.")])
        self._seed = 0
        self.is_healthy = False
        """From now on nothing goes wrong."""

    def expect(self, plan: Plan) -> None:
        """Know what its executions are to do, and what goes wrong."""
        self._seed = plan.seed
        self.is_healthy = not plan.has_model_faults
        self.conversations |= {work.key: _turns_of(work) for work in plan.works}

    def fault(self, question: Question, nth: int) -> Fault | None:
        chance = random.Random(f"{self._seed}/{question.conversation}/{question.turn}/{nth}")
        if self.is_healthy or chance.random() >= FAULT_SHARE:
            return None
        kind = chance.choice(_FAULTS)
        # Inside a stream no status is seen, and what is said of this one would be a refusal for good.
        statuses = (500, 503) if kind == "error_event" else (429, 500, 503, 529)
        return Fault(kind, status=chance.choice(statuses), after_pieces=1)


def _turns_of(work: Work) -> list[ScriptedTurn]:
    text = ("x" * (work.answer_characters // _WORDS) + " ") * _WORDS
    turns = list[ScriptedTurn]()
    for seconds in work.commands:
        calls = [_command(seconds, number) for number in range(1, work.parallel + 1)]
        # Each word of a text and of a call's arguments is sent as a piece of its own.
        pieces = _WORDS + sum(len(json.dumps(call.arguments).split()) for call in calls)
        turns.append(ScriptedTurn(text=text, calls=calls, chunk_seconds=work.answer_seconds / pieces))
    return [*turns, ScriptedTurn(text="Done.")]


def _command(seconds: float, number: int) -> ScriptedCall:
    mark = f"{{turn}}-{number}"
    command = f"echo began-{mark} >> {MARKS_FILE} && sleep {seconds:g} && echo ended-{mark} >> {MARKS_FILE}"
    return ScriptedCall("run_command", {"command": command})


class ChaosModel(ModelServer):
    """Serves the script; each runner asks under a path of its own, so that it is known who asked."""

    def __init__(self, script: ChaosScript) -> None:
        super().__init__(script)
        self.chaos_script = script
        self._askings: list[Asking] = []
        self._askings_lock = threading.Lock()

    @property
    def askings(self) -> list[Asking]:
        """All requests for answers, in order."""
        with self._askings_lock:
            return list(self._askings)

    async def _answer(self, wire_format: WireFormat, request: Request, writer: asyncio.StreamWriter) -> None:
        question = read_question(wire_format, json.loads(request.body))
        place = (question.conversation, question.turn)
        asking = Asking(*place, runner=request.path.split("/")[1], began_at=time.monotonic())
        with self._askings_lock:
            self._askings.append(asking)
        with self._changed:
            fault = self.script.fault(question, self._asked[place] + 1)
        asking.fault = None if fault is None else fault.kind
        try:
            await super()._answer(wire_format, request, writer)
            asking.is_answered = fault is None
        finally:
            asking.ended_at = time.monotonic()
