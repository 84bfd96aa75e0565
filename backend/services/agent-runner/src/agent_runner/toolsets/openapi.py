"""The tools of one HTTP API: operations of the OpenAPI document that was packed with the agent."""

import asyncio
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue, ValidationError
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.mcp_servers.tool_names import model_name
from agent_runner.outward import Answer, AnswerLost, NotSent, Redirects, send
from agent_runner.toolsets.call_in_hand import call_in_hand
from agent_runner.toolsets.command_output import cut_middle
from agent_runner.toolsets.facts import DeclaredToolset, ToolFacts
from agent_runner.toolsets.foreign_tools import foreign_tool
from agent_runner.toolsets.openapi_requests import ArgumentsUnfit, WrittenRequest, write_request
from agent_runner.toolsets.page_texts import is_textual, text_of
from agent_runner.workspace import PackFolders
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.errors import PackError
from stigmer_contract.manifest_openapi import OpenApi, matches
from stigmer_contract.openapi_operations import (
    MAX_OPERATIONS_BYTES,
    OPERATIONS_FILE,
    READING_METHODS,
    Operation,
    Operations,
)

MAX_ANSWER_BYTES: Final = 4 << 20
MAX_SHOWN_CHARACTERS: Final = 50_000
"""What one call may add to the conversation, as with commands."""
OUTCOME_UNKNOWN: Final = (
    "Outcome unknown: {why}. The request may have done nothing, a part or all of its work. Look at the "
    "present state before you decide whether to do it again."
)


def openapi_toolset(
    api: OpenApi, packs: PackFolders, headers: Mapping[str, str], seconds: float, allowed: Collection[str]
) -> DeclaredToolset:
    """The tools that the manifest lets the agent have of an API. Sends nothing, and reads the pack late.

    Args:
        headers: of each request, with secrets.
        seconds: how long a request may take.
        allowed: hosts that may be at private addresses.
    """
    made = OpenApiToolset(api, packs, headers, seconds, allowed)
    return DeclaredToolset(made, made.facts_of)


class OpenApiToolset(FunctionToolset[None]):
    """One API's tools; its id is the API's name."""

    def __init__(
        self,
        api: OpenApi,
        packs: PackFolders,
        headers: Mapping[str, str],
        seconds: float,
        allowed: Collection[str],
    ) -> None:
        super().__init__(id=api.name)
        self._api = api
        self._packs = packs
        self._headers = headers
        self._seconds = seconds
        self._allowed = allowed
        self._facts = dict[str, ToolFacts]()
        self._is_read = False

    def facts_of(self, name: str) -> ToolFacts:
        """What is held of a tool, by its name for the model."""
        return self._facts.get(name, ToolFacts())

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools by name.

        Raises:
            ExecutionFailure: what was packed cannot be had.
        """
        if not self._is_read:
            self._is_read = True
            for operation in await self._operations():
                self._add(operation)
        return await super().get_tools(ctx)

    async def _operations(self) -> list[Operation]:
        pack = (self._api.pack or "").removeprefix("sha256:")
        try:
            file = await self._packs.folder({"": pack}) / OPERATIONS_FILE
            if file.stat().st_size > MAX_OPERATIONS_BYTES:
                raise PackError(f"they are larger than {MAX_OPERATIONS_BYTES >> 20} MiB")
            return Operations.model_validate_json(file.read_bytes()).operations
        except AttemptSuperseded:
            raise
        except (PackError, ServerRefused, OSError, ValidationError) as error:
            why = "they are not what was packed" if isinstance(error, ValidationError) else str(error)
            raise ExecutionFailure(
                ErrorCode.INVALID_MANIFEST,
                f"the operations of the API {self._api.name!r} cannot be had: {why}",
                "apply the agent again",
            ) from error

    def _add(self, operation: Operation) -> None:
        name = model_name(self._api.name, operation.name)
        told = (operation.name, operation.method, operation.path)
        reads = operation.method in READING_METHODS or matches(self._api.read_only, *told)
        facts = ToolFacts(
            side_effects=not reads,
            may_repeat=reads or matches(self._api.idempotent, *told),
            own_name=operation.name,
        )

        async def call(arguments: Mapping[str, JsonValue]) -> str:
            return await self._call(operation, facts, arguments)

        self._facts[name] = facts
        self.add_tool(foreign_tool(name, operation.description, operation.input_schema, call))

    async def _call(self, operation: Operation, facts: ToolFacts, arguments: Mapping[str, JsonValue]) -> str:
        in_hand = call_in_hand.get()
        try:
            request = write_request(self._api.server or "", operation, arguments)
            answer = await self._answer(operation, facts, request)
        except ArgumentsUnfit as error:
            raise ModelRetry(f"The arguments do not fit: {error}") from error
        except asyncio.CancelledError:
            # Stopped from outside, by `limits.toolTimeout` for one: it may have been sent.
            if in_hand is not None:
                in_hand.is_outcome_unknown = facts.side_effects
            raise
        except NotSent as error:
            raise ToolFailed(f"The request was not sent: {error}") from error
        except AnswerLost as error:
            if not facts.side_effects:
                raise ToolFailed(f"There was no answer: {error}") from error
            if in_hand is not None:
                in_hand.is_outcome_unknown = True
            raise ToolFailed(OUTCOME_UNKNOWN.format(why=error)) from error
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise ToolFailed(_shown(answer))
        return _shown(answer)

    async def _answer(self, operation: Operation, facts: ToolFacts, request: WrittenRequest) -> Answer:
        # The manifest's headers count: an argument cannot replace what says who calls.
        fixed = {name.lower() for name in self._headers}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in fixed}
        headers = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1"} | headers | dict(self._headers)

        async def once() -> Answer:
            return await send(
                operation.method,
                request.url,
                headers,
                request.content,
                allowed=self._allowed,
                max_bytes=MAX_ANSWER_BYTES,
                seconds=self._seconds,
                redirects=Redirects.SAME_ORIGIN,
            )

        try:
            return await once()
        except AnswerLost:
            if not facts.may_repeat:
                raise
            return await once()


def _shown(answer: Answer) -> str:
    """What the model reads of an answer."""
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    status = f"HTTP {answer.status}{phrase}"
    location = answer.headers.get("location")
    if location is not None and answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        status += f", which sends on to {location[:500]!r}: not followed"
    if not answer.content:
        return f"{status}, without content"
    if not is_textual(answer):
        body = f"[{len(answer.content)} bytes of {answer.media_type}, which are not shown]"
    else:
        body = cut_middle(text_of(answer), MAX_SHOWN_CHARACTERS, "ask for less, where the API can")
    if answer.is_cut:
        body += f"\n[the answer is longer than {MAX_ANSWER_BYTES >> 20} MiB: the rest was not read]"
    return body if answer.status < HTTPStatus.MULTIPLE_CHOICES else f"{status}\n{body}"
