"""Executions wait for people while everything dies: each is decided once, and goes on from there.

The short form, with ten of them, runs in CI; `make people-and-kills` takes twenty rounds of twenty, each with
a kill -9 at every step.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from e2e_script import QUICK_HEARTBEAT, calls_in_order, runner_environment
from executions import Execution, agent_manifest, tool_results
from model_server import ModelServer, ScriptedCall
from running_stack import RunningStack
from server_process import wait_until
from stigmer_contract.events import InputRequested, InputResolved, ToolOutcome, ToolStarted
from stigmer_contract.inputs import InputKind, InputOutcome

ROUNDS: Final = int(os.environ.get("STIGMER_TEST_ROUNDS", "1"))
WAITING: Final = 20 if ROUNDS > 1 else 10
THREADS: Final = 10
PARTS: Final = ("runner", "server", "temporal")
STEPS: Final = ("asking", "waiting", "answering", "approving")
"""At which somebody dies, in each round."""
WAIT_SECONDS: Final = 240.0

QUESTION: Final = ScriptedCall("ask_user", {"question": "Which one?", "choices": ["red", "green"]})
COMMAND: Final = ScriptedCall("run_command", {"command": "echo done >> done.txt"})

pytestmark = [pytest.mark.timeout(300 + 300 * ROUNDS), pytest.mark.xdist_group("people-and-kills")]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(calls_in_order([[QUESTION], [COMMAND]])) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with RunningStack(
        tmp_path_factory.mktemp("people"),
        server_environment=QUICK_HEARTBEAT,
        runner_environment=runner_environment(model),
    ) as running:
        yield running


@dataclass
class Asked:
    """An execution, and what people decided about it."""

    execution: Execution
    key: str
    """Under which the model counts it."""
    decided: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Input and what the person who was first said."""


def start(stack: RunningStack) -> Asked:
    manifest = agent_manifest(tools=("shell",))
    manifest["spec"] |= {"askUser": True, "approval": [{"tool": "shell", "policy": "ask"}]}
    key = uuid4().hex
    return Asked(Execution.start(stack, manifest, f"Do it. [conversation {key}]"), key)


class Killer:
    """Kills one part after the other, and starts it again."""

    def __init__(self, stack: RunningStack, number: int) -> None:
        """`number` is the round, which decides who dies at which step."""
        self._stack = stack
        self._number = number
        self.runners = 0

    def strike(self, step: str) -> None:
        """kill -9 of one part; returns when it is back."""
        part = PARTS[(self._number + STEPS.index(step)) % len(PARTS)]
        stack = self._stack
        if part == "runner":
            self.runners += 1
            stack.kill_runner(stack.runners[-1])
            stack.start_runner(f"runner-{self._number}-{step}")
        elif part == "server":
            stack.kill_server()
            stack.start_server()
        else:
            stack.kill_temporal()
            stack.start_temporal()


def insisting(do: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer of a server that may be dead for a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            answer = do()
        except httpx.TransportError:
            pass
        else:
            if answer.status_code < 500:
                return answer
        assert time.monotonic() < deadline, "the server never answered"
        time.sleep(0.1)


def open_inputs(stack: RunningStack, kind: InputKind) -> dict[str, str]:
    """What waits, by execution."""
    found = insisting(lambda: stack.client.get("/v1/inputs", params={"kind": kind, "limit": 100}))
    return {each["execution_id"]: each["input_id"] for each in found.json()["items"]}


def wait_for_inputs(stack: RunningStack, kind: InputKind, asked: list[Asked], number: int) -> dict[str, str]:
    """What waits of these executions, once so many do."""
    found: dict[str, str] = {}
    ids = {each.execution.execution_id for each in asked}

    def are_enough() -> bool:
        found.update((of, input_id) for of, input_id in open_inputs(stack, kind).items() if of in ids)
        return len(found) >= number

    wait_until(are_enough, f"{number} of {kind} wait", seconds=WAIT_SECONDS)
    return found


def decide(stack: RunningStack, asked: Asked, input_id: str, bodies: list[dict[str, Any]]) -> None:
    """Let as many people as there are bodies decide at once; one of them is the first."""

    def say(body: dict[str, Any]) -> int:
        headers = {"Idempotency-Key": uuid4().hex}
        path = f"/v1/inputs/{input_id}"
        return insisting(lambda: stack.client.post(path, json=body, headers=headers)).status_code

    with ThreadPoolExecutor(len(bodies)) as people:
        statuses = list(people.map(say, bodies))
    assert sorted(statuses) == [200, *[409] * (len(bodies) - 1)], statuses
    first = bodies[statuses.index(200)]
    asked.decided.append((input_id, str(first.get("answer") or first["outcome"])))


def decide_all(
    stack: RunningStack, asked: list[Asked], kind: InputKind, bodies: list[dict[str, Any]], killer: Killer
) -> None:
    """Decide about all of them, while somebody dies in the midst of it."""
    step = "answering" if kind is InputKind.QUESTION else "approving"
    inputs = wait_for_inputs(stack, kind, asked, len(asked))
    count, reached = 0, threading.Event()
    lock = threading.Lock()
    strikes_after = random.randrange(len(asked) // 4, len(asked) // 2)

    def one(each: Asked) -> None:
        nonlocal count
        decide(stack, each, inputs[each.execution.execution_id], random.sample(bodies, len(bodies)))
        with lock:
            count += 1
            if count >= strikes_after:
                reached.set()

    with ThreadPoolExecutor(THREADS + 1) as threads:

        def strike() -> None:
            assert reached.wait(WAIT_SECONDS)
            killer.strike(step)

        struck = threads.submit(strike)
        try:
            list(threads.map(one, asked))
        finally:
            reached.set()
            struck.result()


def assert_decided_once(stack: RunningStack, model: ModelServer, asked: Asked, kills: int) -> None:
    """Nothing is lost, decided twice, run twice, or run undecided, and no answer is paid for without need."""
    log, events = asked.execution.log, asked.execution.events
    assert [recorded.sequence for recorded in log] == list(range(1, len(log) + 1))
    requests = [event for event in events if isinstance(event, InputRequested)]
    resolutions = [event for event in events if isinstance(event, InputResolved)]
    assert [each.kind for each in requests] == [InputKind.QUESTION, InputKind.APPROVAL]
    assert [each.input_id for each in resolutions] == [each.input_id for each in requests]
    (question, colour), (approval, outcome) = asked.decided
    assert [question, approval] == [each.input_id for each in requests]
    assert resolutions[0].answer is not None
    assert resolutions[0].answer.model_dump()["value"] == colour
    assert resolutions[1].outcome == outcome

    told, command = tool_results(events)
    assert colour in str(told.result.model_dump()["value"])
    begun = [place for place, event in enumerate(events) if _is_command(event)]
    file = stack.workspace_root / asked.execution.session_id / "done.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if outcome == InputOutcome.DENIED:
        assert (command.outcome, begun, lines) == (ToolOutcome.DENIED, [], [])
    elif command.outcome is ToolOutcome.UNKNOWN:
        assert kills and len(lines) <= 1
    else:
        assert (command.outcome, lines) == (ToolOutcome.SUCCEEDED, ["done"])
    assert all(place > events.index(resolutions[1]) for place in begun)
    assert len(begun) <= 1
    times = [model.asked[asked.key, turn] for turn in (1, 2, 3)]
    assert min(times) == 1 and sum(times) <= 3 + kills, times


def _is_command(event: object) -> bool:
    return isinstance(event, ToolStarted) and event.tool == "run_command"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_whatever_dies_each_is_decided_once_and_goes_on(
    stack: RunningStack, model: ModelServer, number: int
) -> None:
    killer = Killer(stack, number)
    with ThreadPoolExecutor(THREADS) as threads:
        asked = list(threads.map(start, [stack] * WAITING))
    wait_for_inputs(stack, InputKind.QUESTION, asked, WAITING // 4)
    killer.strike("asking")
    wait_for_inputs(stack, InputKind.QUESTION, asked, WAITING)
    killer.strike("waiting")

    answers = [{"outcome": "answered", "answer": colour} for colour in ("red", "green")]
    decide_all(stack, asked, InputKind.QUESTION, answers, killer)
    decisions = [{"outcome": outcome} for outcome in ("approved", "denied")]
    decide_all(stack, asked, InputKind.APPROVAL, decisions, killer)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(Execution.wait_until_completed, [each.execution for each in asked]))
    for each in asked:
        assert_decided_once(stack, model, each, killer.runners)
    assert open_inputs(stack, InputKind.QUESTION) == open_inputs(stack, InputKind.APPROVAL) == {}
