"""Builds the pydantic-ai agent of one leg from the execution's agent spec. Runs nothing."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import InstructionPart
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings as RequestSettings
from pydantic_ai.toolsets import AbstractToolset

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.durability import JournalDurability
from agent_runner.models import MAX_CORRECTIONS, CutAnswers, StructuredAnswers
from agent_runner.toolsets import session_tools, skills_catalogue
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.toolsets.tool_search import ToolSearching
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.manifest import AgentSpec, unsupported_fields

MAX_TOOL_CORRECTIONS: Final = 10
"""How often in a row a model may get one tool's arguments wrong before the execution fails."""
MAX_ANSWER_CORRECTIONS: Final = 2
"""How often a model may answer with nothing at all."""


def build_agent(
    agent_name: str,
    spec: AgentSpec,
    *,
    model: Model,
    settings: RequestSettings,
    workspace: SessionWorkspace,
    durability: JournalDurability,
    variables: ToolVariables,
    packs: PackFolders,
    surroundings: str | None,
    further: Sequence[AbstractCapability[Any]] = (),
    toolsets: Sequence[AbstractToolset[None]] = (),
    searching: ToolSearching | None = None,
) -> Agent[None, Any]:
    """The agent that works through `durability`'s journal in `workspace`.

    `settings` are how its model is asked. `variables` go into the environment of what it starts; `packs` has
    the files of its tools. `surroundings` says where it works, as a part of its own behind its instructions.
    `further` capabilities watch it. `toolsets` are those that the catalogue does not have, and `searching`
    finds what is not shown at first.

    Raises:
        ExecutionFailure: the spec asks for something that does not exist yet.
    """
    not_yet = unsupported_fields(spec)
    if not_yet:
        raise ExecutionFailure(
            ErrorCode.FEATURE_NOT_YET,
            f"{not_yet[0]} is not supported yet by this runner",
            f"remove {not_yet[0]} from the manifest",
        )
    skills = skills_catalogue(spec)
    form = None if spec.output is None else StructuredAnswers(spec.output.schema_)
    agent = Agent[None, Any](
        model,
        name=agent_name,
        deps_type=type(None),
        output_type=str if form is None else form.output_type(model),
        instructions=[
            spec.instructions,
            *([InstructionPart(skills, name="skills")] if skills else []),
            *([InstructionPart(surroundings, name="surroundings")] if surroundings else []),
        ],
        model_settings=settings,
        retries={
            "tools": MAX_TOOL_CORRECTIONS,
            "output": MAX_ANSWER_CORRECTIONS if form is None else MAX_CORRECTIONS,
        },
        capabilities=[
            session_tools(spec, workspace, variables, packs, toolsets, searching),
            durability,
            *([form] if form else []),
            *further,
        ],
    )
    agent.output_validator(CutAnswers().check if form is None else form.check)
    return agent
