"""Recorded logs, cut after each of their events and gone on with: nothing that is in a log is done again.

Model, tools, network and clock are doubles that fail where they are asked for something the log has.
"""

import hashlib
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability, durable_operation
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.journal import model_steps, steps, tool_steps
from agent_runner.journal.bodies import Bodies
from agent_runner.journal.results import play
from agent_runner.models import ShownAnswers
from agent_runner.models.asking import NoWatcher
from agent_runner.models.replay import ReplayModel
from agent_runner.toolsets import DeclaredToolset, ToolFacts, session_tools
from agent_runner.workspace import PackFolders, SessionWorkspace
from journal_legs import Killed, Leg, MemoryLog
from stigmer_cli.commands.agent_packs import pack_agents
from stigmer_cli.commands.manifest_files import ManifestFile
from stigmer_contract.cassette import load_cassette
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import (
    ModelResponded,
    Payload,
    RecordedEvent,
    StepFinished,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.manifest_reader import read_manifests
from stigmer_isolation.launcher import CommandLauncher

EXAMPLES = Path(__file__).parents[5] / "examples"
NAMES = sorted(
    path.parent.name
    for path in EXAMPLES.glob("*/agent.yaml")
    # What is done again of those, `mcp` tries.
    if "mcpServers:" not in path.read_text(encoding="utf-8")
)

Models = Callable[[str], Model]
"""The model of an agent, by its path."""


@dataclass
class Recording:
    """A log, and how an agent is built that leaves it."""

    build: Callable[[Leg, Models], Agent[None, str]]
    leaves: Sequence[FunctionToolset[None]]
    """The toolsets whose calls are steps."""
    prompt: str
    log: list[RecordedEvent] = field(default_factory=list[RecordedEvent])


@dataclass
class Doubles:
    """Stand in for the world while a log is gone on with; what the log has may not be asked of them."""

    whole: MemoryLog
    known: MemoryLog

    def __post_init__(self) -> None:
        self.clock_reads = 0
        known = requests_in(self.known.events)
        whole = requests_in(self.whole.events)
        self.unasked = {key: answer for key, answer in whole.items() if key not in known}
        """What the log does not have yet; each of it may be asked for once, in the order of the whole log."""
        self._results = {event.call_id: event for event in results_in(self.whole.events)}
        self._has_results = {event.call_id for event in results_in(self.known.events)}

    def model(self, path: str) -> Model:
        """That of the agent of this path."""

        async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            due = [key for key in self.unasked if key[0] == path]
            assert due, f"the model of {path!r} was asked for an answer that is in the log"
            return _RESPONSE.validate_python(await Bodies(self.whole).load_answer(self.unasked.pop(due[0])))

        return FunctionModel(answer, model_name="double")

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        assert ctx.tool_call_id not in self._has_results, f"the result of {ctx.tool_call_id} is in the log"
        return play(await Bodies(self.whole).load_result(self._results[ctx.tool_call_id].result))

    def monotonic(self) -> float:
        self.clock_reads += 1
        return 0.0


_RESPONSE = TypeAdapter(ModelResponse)


def requests_in(events: Sequence[RecordedEvent]) -> dict[tuple[str, int, int], Payload]:
    """What was answered, if only that it is to be collected, by agent path, turn and request of that turn."""
    answers: dict[tuple[str, int, int], Payload] = {}
    for recorded in events:
        event = recorded.event
        if isinstance(event, ModelResponded):
            answers[key_of_answer(event)] = event.response
        elif isinstance(event, StepFinished) and event.kind == "submitted" and event.result is not None:
            answers[event.agent_path, int(event.key), event.nth] = event.result
    return answers


def answers_in(events: Sequence[RecordedEvent]) -> list[ModelResponded]:
    return [recorded.event for recorded in events if isinstance(recorded.event, ModelResponded)]


def results_in(events: Sequence[RecordedEvent]) -> list[ToolFinished]:
    return [recorded.event for recorded in events if isinstance(recorded.event, ToolFinished)]


async def go_on_after_every_event(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the log at every place, and go on from there with doubles."""

    def no_network(*_: object) -> None:
        raise AssertionError("nothing here is to be asked of a network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    whole = MemoryLog(recording.log)
    output: str | None = None
    for place in range(len(recording.log), -1, -1):
        log = MemoryLog(recording.log[:place])
        doubles = Doubles(whole, log)
        for module in (model_steps, steps, tool_steps):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=doubles.monotonic))
        for leaf in recording.leaves:
            monkeypatch.setattr(leaf, "call_tool", doubles.call_tool)
        result = await recording.build(Leg(log), doubles.model).run(recording.prompt)
        output = result.output if output is None else output
        assert (result.output, doubles.unasked) == (output, {})
        if place == len(recording.log):
            assert (log.new, doubles.clock_reads) == ([], 0)
        assert [key_of_answer(e) for e in answers_in(log.events)] == [
            key_of_answer(e) for e in answers_in(recording.log)
        ]
        ended = Counter((event.agent_path, event.call_id) for event in results_in(log.events))
        assert ended == Counter((event.agent_path, event.call_id) for event in results_in(recording.log))
        unknown = {e.call_id for e in results_in(log.events) if e.outcome is ToolOutcome.UNKNOWN}
        assert unknown <= begun_and_not_ended(recording.log[:place]) | {
            e.call_id for e in results_in(recording.log) if e.outcome is ToolOutcome.UNKNOWN
        }


def key_of_answer(event: ModelResponded) -> tuple[str, int, int]:
    return event.agent_path, event.turn, event.nth


def begun_and_not_ended(events: Sequence[RecordedEvent]) -> set[str]:
    begun = {e.event.call_id for e in events if isinstance(e.event, ToolStarted) and e.event.side_effects}
    return begun - {event.call_id for event in results_in(events)}


# --- the examples -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_in_the_log_of_an_example_is_done_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = EXAMPLES / name
    [manifest] = read_manifests((folder / "agent.yaml").read_bytes(), "agent.yaml")
    [packed] = pack_agents([ManifestFile(manifest, "agent.yaml", folder)])
    manifest, packs = packed.manifest, {hashlib.sha256(each).hexdigest(): each for each in packed.packs}

    async def load(sha256: str) -> bytes:
        return packs[sha256]

    directory = Path(shutil.copytree(folder / "input", tmp_path / name))
    async with CommandLauncher() as launcher:
        workspace = SessionWorkspace(directory, launcher=launcher)
        tools = session_tools(manifest.spec, workspace, packs=PackFolders(tmp_path, load))
        leaves: list[FunctionToolset[None]] = []
        for declared in tools.toolsets:
            declared.apply(lambda leaf: leaves.append(leaf) if isinstance(leaf, FunctionToolset) else None)
        recording = Recording(
            lambda leg, models: leg.agent(
                models(""), capabilities=[tools], instructions=manifest.spec.instructions
            ),
            leaves,
            (folder / "prompt.txt").read_text(encoding="utf-8").strip(),
        )
        cassette = load_cassette((folder / "cassette.yaml").read_text(encoding="utf-8"))
        model = ShownAnswers(ReplayModel(name, cassette), NoWatcher())
        log = MemoryLog()
        await recording.build(Leg(log), lambda _path: model).run(recording.prompt)
        assert {event.outcome for event in results_in(log.events)} <= {
            ToolOutcome.SUCCEEDED,
            ToolOutcome.FAILED,
        }
        recording.log = log.events
        await go_on_after_every_event(recording, monkeypatch)


# --- faults, and what goes beyond them --------------------------------------------------------

CHILD = "/1.delegate-1:child"


async def look(name: str) -> str:
    if name == "nowhere":
        raise ModelRetry("look elsewhere")
    return f"{name} seen"


async def change(name: str) -> str:
    if name == "stone":
        raise ToolFailed("it is too hard")
    return f"{name} changed"


def call(call_id: str, tool: str, arguments: object, **more: Any) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart(tool, cast("Any", arguments), call_id)], **more)


EVERY_OUTCOME = [
    ModelResponse(
        parts=[
            ToolCallPart("look", {"name": "a"}, "look-1"),
            ToolCallPart("look", {"name": "b"}, "look-2"),
            ToolCallPart("change", {"name": "c"}, "change-1"),
            ToolCallPart("change", {"name": "stone"}, "change-2"),
            ToolCallPart("look", {"name": "c"}, "look-3"),
        ]
    ),
    call("unknown", "no_such_tool", {}),
    call("invalid", "look", {"nme": "a"}),
    call("cut", "look", '{"name": "a', finish_reason="length"),
    call("retried", "look", {"name": "nowhere"}),
    ModelResponse(parts=[]),
    ModelResponse(parts=[], state="suspended", provider_response_id="job"),
    ModelResponse(parts=[TextPart("done")], provider_response_id="job"),
]
CHILD_ANSWERS = [call("change-1", "change", {"name": "x"}), ModelResponse(parts=[TextPart("child is done")])]
PARENT_ANSWERS = [call("delegate-1", "delegate", {}), ModelResponse(parts=[TextPart("done")])]


class Paid(AbstractCapability[None]):
    """Pays for something before each run and each request."""

    id = "paid"

    async def before_run(self, ctx: RunContext[None]) -> None:
        await self.pay(ctx, "run")

    async def before_model_request(
        self, ctx: RunContext[None], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        await self.pay(ctx, f"request {ctx.run_step}")
        return request_context

    @durable_operation("pay")
    async def pay(self, ctx: RunContext[None], what: str) -> str:
        time.monotonic()  # the clock that stands still where this is in the log
        return f"{what} is paid"


def scripted(answers: Sequence[ModelResponse]) -> Model:
    left = list(answers)
    return FunctionModel(lambda messages, info: left.pop(0), model_name="scripted")


async def recorded(recording: Recording, models: Models, *kills: int) -> Recording:
    """Record a log; each leg but the last is killed after so many events of its own."""
    events: list[RecordedEvent] = []
    for kill in kills:
        log = MemoryLog(events, die_after=kill)
        with pytest.raises(Killed):
            await recording.build(Leg(log), models).run(recording.prompt)
        events = log.events
    log = MemoryLog(events)
    await recording.build(Leg(log), models).run(recording.prompt)
    recording.log = log.events
    return recording


def one_agent() -> Recording:
    reading, changing = FunctionToolset[None]([look], id="r"), FunctionToolset[None]([change], id="c")
    tools = (
        DeclaredToolset(reading, lambda _name: ToolFacts(side_effects=False)),
        DeclaredToolset(changing, lambda _name: ToolFacts()),
    )
    return Recording(
        lambda leg, models: leg.agent(models(""), *tools, capabilities=[Paid()]), [reading, changing], "Go."
    )


def agent_in_agent() -> Recording:
    changing = FunctionToolset[None]([change], id="c")

    def build(leg: Leg, models: Models) -> Agent[None, str]:
        tools = DeclaredToolset(changing, lambda _name: ToolFacts())
        child = leg.agent(models(CHILD), tools, name="child", capabilities=[Paid()])

        async def delegate() -> str:
            return (await child.run("Change x.")).output

        agents = FunctionToolset[None]([delegate], id="agents")
        declared = DeclaredToolset(agents, lambda _name: ToolFacts(runs_agents=True))
        return leg.agent(models(""), declared, name="parent", capabilities=[Paid()])

    return Recording(build, [changing], "Go.")


async def test_nothing_is_done_again_whatever_became_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted(EVERY_OUTCOME)
    recording = await recorded(one_agent(), lambda _path: model)
    outcomes = Counter(event.outcome for event in results_in(recording.log))
    assert outcomes == {ToolOutcome.SUCCEEDED: 4, ToolOutcome.FAILED: 2, ToolOutcome.INVALID: 3}
    await go_on_after_every_event(recording, monkeypatch)


@pytest.mark.parametrize("kills", [(7,), (7, 2), (7, 2, 1, 1)])
async def test_nothing_is_done_again_in_the_log_of_an_execution_whose_runners_died(
    kills: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(EVERY_OUTCOME)
    recording = await recorded(one_agent(), lambda _path: model, *kills)
    await go_on_after_every_event(recording, monkeypatch)


async def test_nothing_is_done_again_in_an_agent_that_a_tool_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"": scripted(PARENT_ANSWERS), CHILD: scripted(CHILD_ANSWERS)}
    recording = await recorded(agent_in_agent(), models.__getitem__)
    await go_on_after_every_event(recording, monkeypatch)
