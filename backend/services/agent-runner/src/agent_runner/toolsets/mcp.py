"""The tools of one MCP server as an agent has them: known from what is written down, called on the server."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.mcp_servers.faults import (
    AnswerRefused,
    AuthorisationNeeded,
    CallLost,
    CallRefused,
    ServerUnavailable,
)
from agent_runner.mcp_servers.questions import (
    CALL_ANEW,
    INPUT_REQUIRED,
    LOG_IN,
    MAX_LOG_INS,
    MAX_ROUNDS,
    StillOpen,
    TakenUp,
)
from agent_runner.mcp_servers.servers import McpServers
from agent_runner.mcp_servers.tool_list import SideEffects, side_effects_of
from agent_runner.mcp_servers.tool_names import model_name
from agent_runner.toolsets.call_in_hand import call_in_hand
from agent_runner.toolsets.facts import DeclaredToolset, ToolFacts
from agent_runner.toolsets.foreign_tools import foreign_tool
from agent_runner.toolsets.middle_of_call import middle_of_call
from agent_runner.toolsets.server_requests import ServerRequests
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.mcp_logins import MAX_CHALLENGE_CHARACTERS
from stigmer_contract.tool_lists import ListedTool, ToolList

OUTCOME_UNKNOWN: Final = (
    "Outcome unknown: {why}. The call may have done nothing, a part or all of its work. Look at the present "
    "state before you decide whether to do it again."
)


def mcp_toolset(server: McpServer, tools: ToolList, servers: McpServers) -> DeclaredToolset:
    """The tools that the manifest lets the agent have of the server. Starts nothing."""
    made = McpToolset(server, tools, servers)
    return DeclaredToolset(made, made.facts_of)


class McpToolset(FunctionToolset[None]):
    """One server's tools; its id is the server's name."""

    def __init__(self, server: McpServer, tools: ToolList, servers: McpServers) -> None:
        super().__init__(id=server.name)
        self._servers = servers
        self._server = server
        self._facts = dict[str, ToolFacts]()
        for tool in tools.tools:
            if server.offers(tool.name):
                self._add(tool)

    def facts_of(self, name: str) -> ToolFacts:
        """What is held of a tool, by its name for the model."""
        return self._facts.get(name, ToolFacts())

    def _add(self, tool: ListedTool) -> None:
        effects = side_effects_of(self._server, tool)
        name = model_name(self._server.name, tool.name)

        async def call(arguments: Mapping[str, JsonValue]) -> str | list[str | BinaryContent]:
            return await self._call(tool, effects, arguments)

        self._facts[name] = ToolFacts(
            side_effects=not effects.reads_only, may_repeat=effects.may_repeat, own_name=tool.name
        )
        self.add_tool(foreign_tool(name, tool.description, tool.input_schema, call))

    async def _call(
        self, tool: ListedTool, effects: SideEffects, arguments: Mapping[str, JsonValue]
    ) -> str | list[str | BinaryContent]:
        in_hand = call_in_hand.get()
        try:
            result, note = await self._result(tool, effects, arguments)
        except asyncio.CancelledError:
            # Stopped from outside, by `limits.toolTimeout` for one: it may have been sent.
            if in_hand is not None:
                in_hand.is_outcome_unknown = not effects.reads_only
            raise
        except (ServerUnavailable, CallRefused, AnswerRefused) as error:
            raise ToolFailed(str(error) or "the server refused, and said nothing") from error
        except CallLost as error:
            if effects.reads_only:
                raise ToolFailed(f"there was no answer: {error}") from error
            if in_hand is not None:
                in_hand.is_outcome_unknown = True
            raise ToolFailed(OUTCOME_UNKNOWN.format(why=error)) from error
        from agent_runner.mcp_servers.contents import parts_of, text_of

        if result.get("isError") is True:
            raise ToolFailed("\n".join(part for part in (note, text_of(result)) if part))
        parts = parts_of(result)
        if note is not None:
            parts.insert(0, note)
        texts = [part for part in parts if isinstance(part, str)]
        return parts if len(texts) < len(parts) else "\n".join(texts) or "(no output)"

    async def _result(
        self, tool: ListedTool, effects: SideEffects, arguments: Mapping[str, JsonValue]
    ) -> tuple[dict[str, JsonValue], str | None]:
        """The call's result, and what is to be said of the server; what it asks meanwhile is answered."""
        in_hand, middle = call_in_hand.get(), middle_of_call.get()
        requests = ServerRequests(self._server, tool.name, model_name(self._server.name, tool.name), middle)
        asked = None if middle is None else await middle.what_was_put_down()
        if middle is not None and asked is None:
            # An earlier leg may have asked, and cancelled the call: no server is started before the answer.
            await middle.until_answered()
        log_ins = _log_ins(asked)
        for _ in range(MAX_ROUNDS):
            taken_up = None if asked is None else await self._taken_up(requests, asked)
            if taken_up is not None and middle is not None:
                await middle.take_up()
            try:
                result, note = await self._servers.call(
                    self._server.name,
                    tool.name,
                    arguments,
                    may_repeat=effects.may_repeat,
                    progress=(lambda _: None) if in_hand is None else in_hand.show,
                    host=requests,
                    taken_up=None if taken_up is None or _fields(asked).get(CALL_ANEW) else taken_up,
                )
            except AuthorisationNeeded as needed:
                if middle is None or not self._server.takes_logins or log_ins == MAX_LOG_INS:
                    raise
                log_ins += 1
                asked = _log_in_needed(needed, log_ins)
                await middle.put_down(asked)
                continue
            except StillOpen:
                assert middle is not None
                await middle.until_answered()
                if not effects.may_repeat:
                    raise CallLost("it was cancelled when a person did not answer in time") from None
                continue
            if result.get("resultType") != INPUT_REQUIRED:
                return result, note
            asked = result
            if middle is not None:
                await middle.put_down(asked)
        raise CallRefused(f"the server asked more than {MAX_ROUNDS} times, and gave no result")

    async def _taken_up(self, requests: ServerRequests, asked: JsonValue) -> TakenUp:
        fields = _fields(asked)
        if LOG_IN in fields:
            await requests.log_in(_fields(fields[LOG_IN]))
            return TakenUp({}, None)
        state = fields.get("requestState")
        answers = await requests.answer_all(_fields(fields.get("inputRequests")))
        return TakenUp(answers, state if isinstance(state, str) else None)


def _log_ins(asked: JsonValue) -> int:
    """How often somebody was asked to sign in for a call, that was put down so."""
    nth = _fields(_fields(asked).get(LOG_IN)).get("nth")
    return nth if isinstance(nth, int) else 0


def _log_in_needed(needed: AuthorisationNeeded, nth: int) -> dict[str, JsonValue]:
    """What is written down of a call that its server refuses until somebody signs in."""
    asked: dict[str, JsonValue] = {
        "status": needed.status,
        "challenge": needed.challenge[:MAX_CHALLENGE_CHARACTERS],
        "key": secrets.token_hex(8),
        "nth": nth,
    }
    return {"resultType": INPUT_REQUIRED, CALL_ANEW: True, LOG_IN: asked}


def _fields(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}
