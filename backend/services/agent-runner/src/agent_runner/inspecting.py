"""The work of an execution that asks no model: looks at the tools of its agent, or calls one for a person."""

from collections.abc import Collection
from typing import Any, Final

from pydantic import JsonValue, ValidationError
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import RunUsage

from agent_runner.approval import ApprovalCall, rules_for
from agent_runner.errors import ExecutionFailure
from agent_runner.journal.kinds import TOOL, StepKey, call_key
from agent_runner.journal.results import dump_error, dump_return
from agent_runner.journal.steps import StepJournal
from agent_runner.journal.tool_lists import look_at_servers
from agent_runner.journal.tool_steps import ToolCall, ToolSteps
from agent_runner.mcp_servers.tool_names import model_name
from agent_runner.server_client import LegClient
from agent_runner.toolsets import CATALOGUE, facts_of, session_tools
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.toolsets.tool_sizes import tokens_of_tool
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.api import LegGrant
from stigmer_contract.conversation import ToolOutcome, ToolResult
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ToolFinished
from stigmer_contract.inspections import CalledTool, InspectionReport, ShownTool
from stigmer_contract.manifest import AgentSpec

CALL_ID: Final = "call"


async def inspect_tools(
    journal: StepJournal,
    grant: LegGrant,
    workspace: SessionWorkspace,
    client: LegClient,
    variables: ToolVariables,
    packs: PackFolders,
    allowed_hosts: Collection[str],
) -> JsonValue:
    """Do what the inspection asks for; gives an `InspectionReport` as JSON.

    Raises:
        ExecutionFailure: the tool that is to be called is not there.
    """
    inspection = grant.inspection
    assert inspection is not None
    call, names = inspection.call, inspection.servers
    async with look_at_servers(
        journal, grant, workspace, client, [call.server] if call is not None else names, allowed_hosts
    ) as (toolsets, servers):
        if call is not None:
            unavailable = next((server.error for server in servers if server.error), None)
            if unavailable is not None:
                raise ExecutionFailure(ErrorCode.MCP_SERVER_UNAVAILABLE, unavailable)
            result = await _call(journal, grant, call, toolsets[0] if toolsets else None)
            report = InspectionReport(servers=list(servers), result=result)
        else:
            if names is None:
                toolsets = [*session_tools(grant.spec, workspace, variables, packs).toolsets, *toolsets]
            tools = [tool for each in toolsets for tool in await _shown(grant.spec, each)]
            report = InspectionReport(servers=list(servers), tools=tools)
    return report.model_dump(mode="json", exclude_none=True)


def _context() -> RunContext[None]:
    return RunContext[None](deps=None, model=TestModel(), usage=RunUsage())


async def _shown(spec: AgentSpec, toolset: AbstractToolset[None]) -> list[ShownTool]:
    tools = await toolset.get_tools(_context())
    return [_described(spec, toolset.id or "", tool.tool_def) for tool in tools.values()]


def _described(spec: AgentSpec, toolset: str, tool: ToolDefinition) -> ShownTool:
    facts = facts_of(tool)
    name = facts.own_name or tool.name
    is_built_in = toolset in CATALOGUE
    call = ApprovalCall(toolset, name, {}, destructive=facts.side_effects, built_in=is_built_in)
    return ShownTool(
        toolset=toolset,
        tool=name,
        shown_as=tool.name,
        description=tool.description or "",
        parameters=tool.parameters_json_schema,
        tokens=tokens_of_tool(tool),
        side_effects=facts.side_effects,
        may_repeat=facts.may_repeat or not facts.side_effects,
        approval=rules_for(spec.approval, call),
    )


async def _call(
    journal: StepJournal, grant: LegGrant, called: CalledTool, toolset: AbstractToolset[None] | None
) -> ToolResult:
    """Call the tool as a step: written down around it, and never made twice."""
    if toolset is None:
        raise ExecutionFailure(ErrorCode.TOOL_MISSING, f"the agent has no MCP server {called.server!r}")
    context, name = _context(), model_name(called.server, called.tool)
    tool = (await toolset.get_tools(context)).get(name)
    if tool is None:
        raise ExecutionFailure(
            ErrorCode.TOOL_MISSING,
            f"the MCP server {called.server!r} has no tool {called.tool!r} for this agent",
            f"`stigmer mcp inspect AGENT {called.server}` shows what it offers",
        )
    scope = journal.scopes.of(None, grant.execution.agent_name)
    scope.turn = 1
    facts = facts_of(tool.tool_def)
    step = ToolCall(CALL_ID, name, called.server, dict[str, Any](called.arguments), facts)
    steps = ToolSteps(journal)

    async def run() -> JsonValue:
        try:
            return dump_return(await toolset.call_tool(name, step.arguments, context, tool))
        except ToolFailed as error:
            told = dump_error(error)
            assert told is not None
            return told

    try:
        tool.args_validator.validate_python(step.arguments)
    except ValidationError as error:
        problems = "; ".join(str(each["msg"]) for each in error.errors(include_url=False))
        await steps.refuse(scope, step, ToolOutcome.INVALID, problems)
    else:
        await steps.result(scope, step, run)
    finished = journal.parts.recorded.results[StepKey("", TOOL, call_key(1, CALL_ID), 1)]
    assert isinstance(finished, ToolFinished)
    return ToolResult.model_validate(await journal.parts.bodies.load_value(finished.result))
