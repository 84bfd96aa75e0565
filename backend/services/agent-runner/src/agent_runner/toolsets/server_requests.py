"""What MCP servers ask in the middle of a call, answered: by a person, by the agent's model."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from agent_runner.mcp_servers.faults import AnswerRefused
from agent_runner.mcp_servers.questions import (
    ELICIT,
    MAX_ASKED_AT_ONCE,
    NOBODY_THERE,
    ROOTS,
    SAMPLE,
    PersonAsked,
    ServerRequest,
    log_in_asked,
    model_asked,
    person_asked,
)
from agent_runner.toolsets.ask_user import Told
from agent_runner.toolsets.call_in_hand import call_in_hand
from agent_runner.toolsets.middle_of_call import MiddleOfCall
from stigmer_contract.inputs import InputOutcome
from stigmer_contract.manifest_mcp import McpServer


class ServerRequests:
    """Of one call of a server's tool."""

    def __init__(self, server: McpServer, tool: str, shown_as: str, middle: MiddleOfCall | None) -> None:
        """`shown_as` is the tool's name for the model. Without a `middle` nobody is there to be asked."""
        self._server = server
        self._tool = tool
        self._shown_as = shown_as
        self._middle = middle
        self._one_after_the_other = asyncio.Lock()

    async def answer(self, request: ServerRequest) -> dict[str, JsonValue]:
        """What a server is told that holds its call open meanwhile.

        Raises:
            AnswerRefused: it is told why not.
            StillOpen: it is not told anything, and the call is to be cancelled.
        """
        async with self._one_after_the_other:
            if request.method == SAMPLE:
                return await self._sample(request.params)
            asked = person_asked(self._server.name, self._tool, request.params)
            stays = self._server.ask_wait.total_seconds()
            return (await self._ask([asked], stays))[0]

    async def log_in(self, asked: Mapping[str, Any]) -> None:
        """Return when somebody has signed in, for the call that was put down because of that.

        Raises:
            AnswerRefused: nobody does.
        """
        if self._middle is None:
            raise AnswerRefused(NOBODY_THERE)
        login = log_in_asked(self._server.name, self._tool, self._server.url or "", asked)
        in_hand = call_in_hand.get()
        with contextlib.nullcontext() if in_hand is None else in_hand.resting():
            told = await self._middle.log_in(self._server.name, self._shown_as, login)
        if told.outcome is not InputOutcome.ANSWERED:
            said = "declined to sign in" if told.outcome is InputOutcome.DENIED else "did not sign in in time"
            reason = f": {told.reason}" if told.reason else ""
            raise AnswerRefused(f"Not called: the MCP server wants a person to sign in, who {said}{reason}")

    async def answer_all(self, requests: Mapping[str, Any]) -> dict[str, JsonValue]:
        """The answers to what a server asks that has put its call down, by the server's own names for them.

        Raises:
            AnswerRefused: one of them cannot be answered at all.
        """
        if len(requests) > MAX_ASKED_AT_ONCE:
            raise AnswerRefused(f"the server asks more than {MAX_ASKED_AT_ONCE} things at once")
        answers, people = dict[str, JsonValue](), dict[str, PersonAsked]()
        for name, each in requests.items():
            fields = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
            params = fields.get("params")
            params = cast("dict[str, Any]", params) if isinstance(params, dict) else {}
            if fields.get("method") == ELICIT:
                people[name] = person_asked(self._server.name, self._tool, params)
            elif fields.get("method") == SAMPLE:
                answers[name] = await self._sample(params)
            elif fields.get("method") == ROOTS:
                answers[name] = {"roots": []}  # the connection knows them
            else:
                raise AnswerRefused("the server asks something that is not known here")
        if people:
            told = await self._ask(list(people.values()), None)
            answers |= dict(zip(people, told, strict=True))
        return answers

    async def _ask(self, asked: Sequence[PersonAsked], stays: float | None) -> list[dict[str, JsonValue]]:
        if self._middle is None:
            raise AnswerRefused(NOBODY_THERE)
        in_hand = call_in_hand.get()
        if in_hand is None:
            told = await self._middle.ask(self._server.name, self._shown_as, asked, stays)
        else:
            with in_hand.resting():
                told = await self._middle.ask(self._server.name, self._shown_as, asked, stays)
        return [_answer(each, said) for each, said in zip(asked, told, strict=True)]

    async def _sample(self, params: Mapping[str, Any]) -> dict[str, JsonValue]:
        if self._server.sampling != "allow":
            raise AnswerRefused("the manifest does not let the server ask the model (`sampling: allow`)")
        if self._middle is None:
            raise AnswerRefused(NOBODY_THERE)
        said = await self._middle.sample(model_asked(params))
        return {
            "role": "assistant",
            "content": {"type": "text", "text": said["text"]},
            "model": said["model"],
            "stopReason": said["stop"],
        }


def _answer(asked: PersonAsked, told: Told) -> dict[str, JsonValue]:
    match told.outcome:
        case InputOutcome.ANSWERED:
            return asked.accepted(told.answer)
        case InputOutcome.DENIED:
            return {"action": "decline"}
        case _:
            return {"action": "cancel"}
