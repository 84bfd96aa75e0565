"""Steps of one execution: what is done once and looked up afterwards, by whom, and in which order."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability, durable_operation
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.results import AFTER_UNKNOWN, CUT_OFF_BY_LENGTH, OUTCOME_UNKNOWN
from agent_runner.toolsets import DeclaredToolset, ToolFacts
from journal_legs import Killed, Leg, MemoryLog, ScriptedModel
from stigmer_contract.conversation import ToolOutcome, ToolResult
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    ExecutionCancelled,
    ExecutionFailed,
    InlinePayload,
    ModelResponded,
    RequestChanged,
    StepFinished,
    ToolFinished,
    ToolStarted,
)

EventT = TypeVar("EventT")

READS = ToolFacts(side_effects=False)
CHANGES = ToolFacts(side_effects=True)
RUNS_AGENTS = ToolFacts(side_effects=True, runs_agents=True)


def calls(*made: tuple[str, str, Any], text: str | None = None, **more: Any) -> ModelResponse:
    parts = [ToolCallPart(tool, arguments, call_id) for call_id, tool, arguments in made]
    return ModelResponse(parts=[*([TextPart(text)] if text else []), *parts], **more)


def toolset(facts: ToolFacts, *functions: Any, name: str = "own") -> DeclaredToolset:
    return DeclaredToolset(FunctionToolset[None](list(functions), id=name), lambda _tool: facts)


def results(events: list[Event]) -> dict[str, tuple[ToolOutcome, str]]:
    """Outcome and text by call id."""
    ended: dict[str, tuple[ToolOutcome, str]] = {}
    for event in events:
        if isinstance(event, ToolFinished):
            assert event.call_id not in ended
            assert isinstance(event.result, InlinePayload)
            ended[event.call_id] = event.outcome, ToolResult.model_validate(event.result.value).text
    return ended


def told(messages: list[ModelMessage]) -> dict[str, str]:
    """What the model is told of its calls, by call id."""
    return {
        part.tool_call_id: part.model_response_str(wrap_if_error=False)
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }


def of_kind(log: MemoryLog, kind: type[EventT]) -> list[EventT]:
    return [recorded.event for recorded in log.events if isinstance(recorded.event, kind)]


# --- who asked --------------------------------------------------------------------------------


class Summary(AbstractCapability[None]):
    """Pays for something before each of an agent's runs."""

    id = "summary"

    def __init__(self, paid: Counter[str], name: str) -> None:
        self._paid = paid
        self._name = name

    async def before_run(self, ctx: RunContext[None]) -> None:
        assert await self.summarize(ctx, "everything so far") == f"{self._name}: everything so far"

    @durable_operation("summarize")
    async def summarize(self, ctx: RunContext[None], text: str) -> str:
        self._paid[self._name] += 1
        return f"{self._name}: {text}"


def family(leg: Leg, paid: Counter[str], asked: Counter[str]) -> Agent[None, str]:
    """An agent whose tool runs another one; both answer twice, and both pay for a summary."""

    def answer(name: str, tool: str) -> FunctionModel:
        def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            turn = 1 + sum(isinstance(message, ModelResponse) for message in messages)
            asked[f"{name}-{turn}"] += 1
            if turn == 1:
                return calls((f"{name}-call", tool, {}))
            return ModelResponse(parts=[TextPart(f"{name} is done")])

        return FunctionModel(model, model_name=name)

    async def look() -> str:
        paid["look"] += 1
        return "seen"

    child = leg.agent(
        answer("child", "look"), toolset(CHANGES, look), name="child", capabilities=[Summary(paid, "child")]
    )

    async def delegate() -> str:
        return (await child.run("Look.")).output

    return leg.agent(
        answer("parent", "delegate"),
        toolset(RUNS_AGENTS, delegate, name="agents"),
        name="parent",
        capabilities=[Summary(paid, "parent")],
    )


async def test_an_agent_in_an_agent_is_killed_after_every_event_and_nothing_is_paid_or_done_twice() -> None:
    whole = MemoryLog()
    assert (await family(Leg(whole), Counter(), Counter()).run("Go.")).output == "parent is done"
    assert [(event.agent_path, event.turn) for event in of_kind(whole, ModelResponded)] == [
        ("", 1),
        ("/1.parent-call:child", 1),
        ("/1.parent-call:child", 2),
        ("", 2),
    ]
    assert {(e.agent_path, e.kind, e.key, e.nth) for e in of_kind(whole, StepFinished)} == {
        ("", "operation", "capability__summary.summarize", 1),
        ("/1.parent-call:child", "operation", "capability__summary.summarize", 1),
    }
    for place in range(1, len(whole.events) + 1):
        paid: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        first = MemoryLog(die_after=place)
        with pytest.raises(Killed):
            await family(Leg(first), paid, asked).run("Go.")
        second = MemoryLog(first.events)
        output = (await family(Leg(second), paid, asked).run("Go.")).output
        assert output == "parent is done"
        begun = {event.call_id for event in of_kind(first, ToolStarted)} - results(first.new).keys()
        if "child-call" in begun:
            assert results(second.new)["child-call"] == (ToolOutcome.UNKNOWN, OUTCOME_UNKNOWN)
        assert paid["look"] <= 1
        assert (paid["parent"], paid["child"]) == (1, 1)
        assert set(asked.values()) == {1}, asked


async def test_an_unknown_kind_of_step_is_journalled_and_not_repeated() -> None:
    done: list[str] = []

    async def do() -> str:
        done.append("once more")
        return "the result"

    first = MemoryLog()
    for _ in range(2):
        leg = Leg(MemoryLog(first.events))
        scope = leg.journal.scopes.of("run", "main")
        assert await leg.journal.step(scope, "teleported", "there", do) == "the result"
        assert await leg.journal.step(scope, "teleported", "there", do) == "the result"
        first = leg.log
    assert len(done) == 2  # the first and the second of the first leg
    assert [(event.kind, event.nth) for event in of_kind(first, StepFinished)] == [
        ("teleported", 1),
        ("teleported", 2),
    ]


async def test_a_list_of_tools_that_stayed_the_same_is_kept_once() -> None:
    listed: list[list[str]] = [["a", "b"], ["a", "b"], ["a", "b", "c"]]
    first = MemoryLog()
    leg = Leg(first)
    scope = leg.journal.scopes.of("run", "main")

    async def do() -> Any:
        return listed.pop(0)

    lists = [await leg.journal.step(scope, "tools.listed", "server", do) for _ in range(3)]
    kept = [event.result is not None for event in of_kind(first, StepFinished)]
    assert (kept, listed) == ([True, False, True], [])
    again = Leg(MemoryLog(first.events))
    scope = again.journal.scopes.of("run", "main")
    assert [await again.journal.step(scope, "tools.listed", "server", do) for _ in range(3)] == lists


MCP_SERVER = """
from pathlib import Path
from mcp.server import MCPServer

with Path(__file__).with_name("starts").open("a") as starts:
    starts.write("started;")
server = MCPServer("echoes")

@server.tool()
def echo(text: str) -> str:
    return text

server.run()
"""


async def test_an_mcp_server_whose_list_and_results_are_in_the_log_is_not_started(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(MCP_SERVER, encoding="utf-8")
    starts = tmp_path / "starts"
    script = ScriptedModel(calls(("c1", "echo", {"text": "hi"})), "done")

    async def run(log: MemoryLog) -> str:
        server = {"command": sys.executable, "args": [str(program)]}
        toolset = MCPToolset[None]({"mcpServers": {"echoes": server}}, id="echoes")
        return (await Leg(log).agent(script.model, toolset).run("Go.")).output

    first = MemoryLog()
    assert await run(first) == "done"
    [listed] = of_kind(first, StepFinished)
    assert (listed.kind, listed.key, listed.digest is None) == ("tools.listed", "echoes", False)
    [begun] = of_kind(first, ToolStarted)
    assert (begun.toolset, begun.side_effects) == ("echoes", True)  # whatever the server says of itself
    again = MemoryLog(first.events)
    assert await run(again) == "done"
    assert (again.new, script.asked, starts.read_text(encoding="utf-8")) == ([], {1: 1, 2: 1}, "started;")


async def test_an_operation_with_other_arguments_is_not_given_the_recorded_result() -> None:
    async def do() -> str:
        return "for one"

    first = MemoryLog()
    leg = Leg(first)
    await leg.journal.step(leg.journal.scopes.of("run", "main"), "operation", "o", do, digest="1")
    again = Leg(MemoryLog(first.events))
    with pytest.raises(ExecutionFailure) as failed:
        await again.journal.step(again.journal.scopes.of("run", "main"), "operation", "o", do, digest="2")
    assert failed.value.code is ErrorCode.REPLAY_DIVERGED


async def test_another_message_stops_the_leg_and_the_difference_is_shown() -> None:
    first = MemoryLog()
    await Leg(first).agent(ScriptedModel("Hello.").model).run("Say hello.")
    leg = Leg(MemoryLog(first.events))
    with pytest.raises(ExecutionFailure) as failed:
        await leg.agent(ScriptedModel().model).run("Say goodbye.")
    assert failed.value.code is ErrorCode.REPLAY_DIVERGED
    assert failed.value.message == (
        "the log does not fit the execution any more at model 1: the log has user-prompt 'Say hello.', and "
        "now it is user-prompt 'Say goodbye.'"
    )
    assert leg.log.new == []


async def test_a_release_that_words_its_tools_otherwise_goes_on_and_says_so() -> None:
    def version(text: str) -> DeclaredToolset:
        async def look() -> str:
            return "seen"

        look.__doc__ = text
        return toolset(READS, look)

    script = ScriptedModel(calls(("c1", "look", {})), "first", "second")
    first = MemoryLog(die_after=3)
    with pytest.raises(Killed):
        await Leg(first).agent(script.model, version("Look.")).run("Go.")
    second = MemoryLog(first.events)
    await Leg(second).agent(script.model, version("Look closely."), instructions="Work well.").run("Go.")
    assert script.asked == {1: 1, 2: 1}
    assert of_kind(second, RequestChanged) == [RequestChanged(turn=2, changed=["tools", "instructions"])]
    [tool] = script.offered[-1].function_tools
    assert tool.description == "Look closely."
    third = MemoryLog(second.events)
    await Leg(third).agent(script.model, version("Look closely."), instructions="Work well.").run("Go.")
    assert (script.asked, third.new) == ({1: 1, 2: 1}, [])


async def test_a_log_of_an_earlier_version_without_fingerprints_is_played() -> None:
    first = MemoryLog()
    await Leg(first).agent(ScriptedModel("Hello.").model).run("Say hello.")
    [answer] = of_kind(first, ModelResponded)
    old = MemoryLog()
    old.append(answer.model_copy(update={"asked": None}))
    again = Leg(MemoryLog(old.events))
    assert (await again.agent(ScriptedModel().model).run("Say hello.")).output == "Hello."


# --- every call is in the log -----------------------------------------------------------------


async def test_every_call_that_is_not_executed_is_in_the_log_and_told_alike_ever_after() -> None:
    async def look(path: str) -> str:
        raise ModelRetry(f"there is no {path}")

    cut = calls(("cut", "look", '{"path": "a'), finish_reason="length")
    script = ScriptedModel(
        calls(("unknown", "no_such_tool", {}), ("invalid", "look", {"pth": "a"})),
        cut,
        calls(("failed", "look", {"path": "a"})),
        "done",
    )
    first = MemoryLog()
    await Leg(first).agent(script.model, toolset(READS, look)).run("Go.")
    ended = results(first.new)
    assert {call: outcome for call, (outcome, _) in ended.items()} == {
        "unknown": ToolOutcome.INVALID,
        "invalid": ToolOutcome.INVALID,
        "cut": ToolOutcome.INVALID,
        "failed": ToolOutcome.FAILED,
    }
    assert "no_such_tool" in ended["unknown"][1]
    assert "path" in ended["invalid"][1]
    assert ended["cut"][1] == CUT_OFF_BY_LENGTH
    assert told(script.messages[-1]) == {call: text for call, (_, text) in ended.items()}

    # A later version, which has one tool more, words what it says of an unknown one otherwise.
    async def another() -> str:
        return ""

    place = next(n for n, e in enumerate(first.events, 1) if isinstance(e.event, ModelResponded) and n > 1)
    again = ScriptedModel("", "", "", "")
    again = ScriptedModel("unused", cut, calls(("failed", "look", {"path": "a"})), "done")
    later = MemoryLog(first.events[: place - 1])
    await Leg(later).agent(again.model, toolset(READS, look, another)).run("Go.")
    assert told(again.messages[-1]) == told(script.messages[-1])


async def test_calls_that_are_open_when_the_execution_is_cancelled_say_what_became_of_them() -> None:
    running = asyncio.Event()

    async def wait() -> str:
        running.set()
        await asyncio.Event().wait()
        return "never"

    script = ScriptedModel(calls(("c1", "wait", {}), ("c2", "wait", {})))
    first = MemoryLog()
    leg = Leg(first)
    work = asyncio.create_task(leg.agent(script.model, toolset(CHANGES, wait)).run("Go."))
    await running.wait()
    work.cancel()
    await asyncio.wait({work})
    half = list(first.events)
    await leg.settle(ExecutionCancelled())
    ended = results(first.new)
    assert ended["c1"][0] is ToolOutcome.UNKNOWN
    assert "stopped while it was running" in ended["c1"][1]
    assert ended["c2"][0] is ToolOutcome.CANCELLED
    assert "not carried out" in ended["c2"][1]
    # Of what another runner had begun nobody knows.
    next_leg = Leg(MemoryLog(half))
    await next_leg.settle(ExecutionCancelled())
    assert results(next_leg.log.new)["c1"] == (ToolOutcome.UNKNOWN, OUTCOME_UNKNOWN)


async def test_a_call_that_ends_the_execution_is_in_the_log_too() -> None:
    script = ScriptedModel(*(calls((f"c{turn}", "no_such_tool", {})) for turn in range(1, 13)))
    leg = Leg()
    with pytest.raises(Exception, match="no_such_tool") as failed:
        await leg.agent(script.model).run("Go.")
    await leg.settle(ExecutionFailed(code=ErrorCode.AGENT_MISBEHAVED, message=str(failed.value)))
    ended = results(leg.log.new)
    assert {outcome for outcome, _ in ended.values()} == {ToolOutcome.INVALID}
    assert len(ended) == len(of_kind(leg.log, ModelResponded))


# --- order ------------------------------------------------------------------------------------


async def test_calls_that_change_anything_run_in_their_order_and_reads_side_by_side() -> None:
    order: list[str] = []
    both = asyncio.Event()

    async def read(name: str) -> str:
        order.append(f"{name} begins")
        if sum(line.startswith("r") and line.endswith("begins") for line in order) % 2 == 0:
            both.set()
        await asyncio.wait_for(both.wait(), 5)
        return name

    async def write(name: str) -> str:
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")
        return name

    answer = calls(
        ("1", "read", {"name": "r1"}),
        ("2", "read", {"name": "r2"}),
        ("3", "write", {"name": "w1"}),
        ("4", "write", {"name": "w2"}),
        ("5", "read", {"name": "r3"}),
    )
    leg = Leg()
    agent = leg.agent(
        ScriptedModel(answer, "done").model, toolset(READS, read, name="r"), toolset(CHANGES, write, name="w")
    )
    await agent.run("Go.")
    assert order[2:] == ["w1 begins", "w1 ends", "w2 begins", "w2 ends", "r3 begins"]
    assert sorted(order[:2]) == ["r1 begins", "r2 begins"]


async def test_after_an_unknown_outcome_later_calls_with_side_effects_of_that_answer_do_not_start() -> None:
    done: list[str] = []

    async def write(name: str) -> str:
        done.append(name)
        return name

    async def read(name: str) -> str:
        done.append(name)
        return name

    script = ScriptedModel(
        calls(("1", "write", {"name": "a"}), ("2", "write", {"name": "b"}), ("3", "read", {"name": "c"})),
        calls(("4", "write", {"name": "b"})),
        "done",
    )

    def tools() -> tuple[DeclaredToolset, DeclaredToolset]:
        return toolset(CHANGES, write, name="w"), toolset(READS, read, name="r")

    first = MemoryLog(die_after=2)  # the answer and the start of the first call
    with pytest.raises(Killed):
        await Leg(first).agent(script.model, *tools()).run("Go.")
    second = MemoryLog(first.events)
    await Leg(second).agent(script.model, *tools()).run("Go.")
    ended = results(second.new)
    assert ended["1"] == (ToolOutcome.UNKNOWN, OUTCOME_UNKNOWN)
    assert ended["2"] == (ToolOutcome.CANCELLED, AFTER_UNKNOWN)
    assert ended["3"][0] is ended["4"][0] is ToolOutcome.SUCCEEDED
    assert done == ["c", "b"]
    # Killed again in between, the third leg knows it as well.
    third = MemoryLog(second.events[:3])
    await Leg(third).agent(script.model, *tools()).run("Go.")
    assert results(third.new)["2"] == (ToolOutcome.CANCELLED, AFTER_UNKNOWN)


async def test_a_runner_that_is_killed_in_thirteen_calls_of_one_answer_does_none_twice() -> None:
    tools = ["read"] * 4 + ["write"] * 5 + ["read", "write"] * 2
    answer = calls(*((f"c{number}", tool, {"name": f"{number}"}) for number, tool in enumerate(tools)))
    written: Counter[str] = Counter()

    async def write(name: str) -> str:
        written[name] += 1
        return name

    async def read(name: str) -> str:
        return name

    async def run(log: MemoryLog) -> None:
        own = toolset(CHANGES, write, name="w"), toolset(READS, read, name="r")
        await Leg(log).agent(script.model, *own).run("Go.")

    allowed = {ToolOutcome.SUCCEEDED: {1}, ToolOutcome.UNKNOWN: {0, 1}, ToolOutcome.CANCELLED: {0}}
    script = ScriptedModel(answer, "done")
    undisturbed = MemoryLog()
    await run(undisturbed)
    for place in range(1, len(undisturbed.new)):
        written.clear()
        script.asked.clear()
        killed = MemoryLog(die_after=place)
        with pytest.raises(Killed):
            await run(killed)
        after = MemoryLog(killed.events)
        await run(after)
        ended = results([*killed.new, *after.new])
        assert len(ended) == len(tools)
        assert script.asked == {1: 1, 2: 1}
        for number, tool in enumerate(tools):
            outcome = ended[f"c{number}"][0]
            if tool == "write":
                assert written[f"{number}"] in allowed[outcome], (place, number, outcome)
            else:
                assert outcome is ToolOutcome.SUCCEEDED
        assert sum(outcome is ToolOutcome.UNKNOWN for outcome, _ in ended.values()) <= 1


async def test_a_leg_that_is_to_hand_back_ends_between_the_steps_of_an_agent_that_a_tool_runs() -> None:
    answered = asyncio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, ModelResponded) and event.agent_path:
            answered.set()

    log = MemoryLog(watch=watch)
    leg = Leg(log)
    paid: Counter[str] = Counter()
    work = asyncio.create_task(family(leg, paid, Counter()).run("Go."))
    await asyncio.wait_for(answered.wait(), 5)
    leg.gate.close()
    await asyncio.wait_for(leg.gate.drained(), 5)
    assert not work.done()
    work.cancel()
    await asyncio.wait({work})
    again = MemoryLog(log.events)
    assert (await family(Leg(again), paid, Counter()).run("Go.")).output == "parent is done"
    assert paid == {"parent": 1, "child": 1, "look": 1}


# --- answers ----------------------------------------------------------------------------------


async def test_half_a_character_is_mended_in_the_log_and_for_the_model() -> None:
    async def look() -> str:
        return "\ud83d\ude00 and \ud83d"

    script = ScriptedModel(calls(("c1", "look", {}), text="\ud83d"), "an emoji: \ud83d\ude00")
    leg = Leg()
    result = await leg.agent(script.model, toolset(READS, look)).run("Go.")
    assert result.output == "an emoji: 😀"
    assert results(leg.log.new)["c1"][1] == "😀 and \ufffd"
    assert script.asked == {1: 1, 2: 1}


async def test_a_request_that_was_handed_in_is_collected_and_never_taken_for_the_answer() -> None:
    asked: list[int] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(len(messages))
        if isinstance(messages[-1], ModelRequest):
            return ModelResponse(parts=[], state="suspended", provider_response_id="job-1")
        return ModelResponse(parts=[TextPart("collected")], provider_response_id="job-1")

    first = MemoryLog(die_after=1)
    with pytest.raises(Killed):
        await Leg(first).agent(FunctionModel(model)).run("Go.")
    assert [event.kind for event in of_kind(first, StepFinished)] == ["submitted"]
    second = MemoryLog(first.events)
    assert (await Leg(second).agent(FunctionModel(model)).run("Go.")).output == "collected"
    [answer] = of_kind(second, ModelResponded)
    assert (answer.turn, answer.nth, len(asked)) == (1, 2, 2)


async def test_secrets_reach_neither_the_log_nor_the_model() -> None:
    async def look() -> str:
        return "the key is s3cret-value"

    script = ScriptedModel(calls(("c1", "look", {})), "done")
    leg = Leg(MemoryLog(), secrets={"KEY": "s3cret-value"})
    await leg.agent(script.model, toolset(READS, look)).run("Go.")
    assert told(script.messages[-1]) == {"c1": "the key is [secret KEY]"}
    assert "s3cret-value" not in json.dumps([event.model_dump(mode="json") for event in leg.log.new])
