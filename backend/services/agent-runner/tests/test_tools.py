"""The built-in toolsets as a model meets them: what they do, what they refuse, and how they fail."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic_ai import Agent
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalCallableOperationBackend,
    RoleBasedOperationConfig,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.toolsets import DeclaredToolset, ToolFacts, facts_of, session_tools
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.policy import Policy
from tool_calls import Result, call_tools, spec_of


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def workspace(tmp_path: Path, launcher: CommandLauncher) -> SessionWorkspace:
    directory = tmp_path / "session"
    directory.mkdir()
    return SessionWorkspace(directory, launcher=launcher)


def names_in(directory: str | Path) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208 - names alone


async def test_shell_and_files_work_on_one_directory_and_leave_nothing_of_their_own(
    workspace: SessionWorkspace,
) -> None:
    results = await call_tools(
        workspace,
        ("write_file", {"path": "notes.txt", "content": "alpha\nbeta\n"}),
        ("run_command", {"command": "sort -r notes.txt > sorted.txt; rm notes.txt; mkdir sub; echo ok"}),
        ("read_file", {"path": "sorted.txt"}),
        ("edit_file", {"path": "sorted.txt", "old_text": "beta", "new_text": "gamma"}),
        ("search_files", {"pattern": "gam+a"}),
        ("find_files", {"pattern": "*.txt"}),
        ("list_directory", {}),
        ("file_info", {"path": "sorted.txt"}),
        ("create_directory", {"path": "sub/deeper"}),
    )
    assert [result.outcome for result in results] == ["success"] * 9
    assert results[1].content == "[stdout]\nok\n"
    assert results[4].content == "sorted.txt:1:gamma"
    assert results[5].content == "sorted.txt"
    assert results[6].content == "sorted.txt  (12 bytes)\nsub/"
    assert names_in(await workspace.working_dir()) == ["sorted.txt", "sub"]


async def test_paths_that_lead_out_are_refused_and_the_agent_goes_on(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    results = await call_tools(
        workspace,
        ("run_command", {"command": "ln -s .. up; ln -s /proc/self/environ environment; mkfifo fifo"}),
        ("read_file", {"path": "../secret.txt"}),
        ("read_file", {"path": "up/secret.txt"}),
        ("write_file", {"path": "up/secret.txt", "content": "overwritten"}),
        ("read_file", {"path": "environment"}),
        ("read_file", {"path": "fifo"}),
        ("read_file", {"path": "nul\0byte"}),
        ("read_file", {"path": "x" * 5000}),
        ("search_files", {"pattern": "secret", "path": "up"}),
        ("list_directory", {"path": "/"}),
        ("run_command", {"command": "echo still here"}),
    )
    outcomes = [result.outcome for result in results[1:-1]]
    assert outcomes == ["failed"] * len(outcomes)
    assert results[-1] == Result("success", "[stdout]\nstill here\n")
    assert all("overwritten" not in result.content for result in results)
    assert (tmp_path / "secret.txt").read_text(encoding="utf-8") == "secret"


async def test_git_hooks_cannot_be_planted_by_the_file_tools(workspace: SessionWorkspace) -> None:
    results = await call_tools(
        workspace,
        ("run_command", {"command": "mkdir -p .git/hooks"}),
        ("write_file", {"path": ".git/hooks/pre-commit", "content": "#!/bin/sh\n"}),
        ("write_file", {"path": ".env.example", "content": "KEY=\n"}),
    )
    assert [result.outcome for result in results] == ["success", "failed", "success"]


@pytest.mark.parametrize("asked", [None, 0.3, 3600])
async def test_no_command_runs_longer_than_the_agent_may(
    workspace: SessionWorkspace, asked: float | None
) -> None:
    limits = {"toolTimeout": "1s"}
    command: dict[str, object] = {"command": "sleep 1000", "timeout_seconds": asked}
    async with asyncio.timeout(30):
        [result] = await call_tools(workspace, ("run_command", command), spec=spec_of(limits=limits))
    allowed = 0.3 if asked == 0.3 else 1.0
    assert result == Result("failed", f"[Command timed out after {allowed:g}s]")


async def test_a_senseless_timeout_is_for_the_model_to_correct(workspace: SessionWorkspace) -> None:
    results = await call_tools(workspace, ("run_command", {"command": "true", "timeout_seconds": -1}))
    assert results == [Result("failed", "timeout_seconds must be greater than 0")]


async def test_the_model_is_told_the_timeout_that_holds(workspace: SessionWorkspace) -> None:
    seen: dict[str, str] = {}

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        [tool] = [tool for tool in info.function_tools if tool.name == "run_command"]
        seen["timeout"] = tool.parameters_json_schema["properties"]["timeout_seconds"]["description"]
        return ModelResponse(parts=[TextPart("done")])

    spec = spec_of(limits={"toolTimeout": "2m"})
    agent = Agent(FunctionModel(model), deps_type=type(None), capabilities=[session_tools(spec, workspace)])
    await agent.run("go")
    assert seen == {"timeout": "Maximum seconds to wait (default and maximum: 120)."}


async def test_what_the_machine_cannot_do_is_a_failed_call_not_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    # Not isolated, so that a command can kill what watches over it.
    async with CommandLauncher(policy=Policy()) as launcher:
        results = await call_tools(
            SessionWorkspace(tmp_path, launcher=launcher),
            ("write_file", {"path": "big", "content": "no room for this"}),
            ("run_command", {"command": "yes"}),
            ("run_command", {"command": "kill -9 $PPID; sleep 1000"}),
            ("run_command", {"command": "true " + "x" * (1 << 20)}),
            ("write_file", {"path": "small", "content": ""}),
        )
    assert [result.outcome for result in results] == ["failed", "failed", "failed", "failed", "success"]
    assert "No space left on device" in results[0].content
    assert "redirect its output to a file" in results[1].content


async def test_side_effects_are_what_the_toolset_says_and_never_go_by_a_bare_name(
    workspace: SessionWorkspace,
) -> None:
    seen: dict[str, ToolDefinition] = {}

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.update({tool.name: tool for tool in info.function_tools})
        return ModelResponse(parts=[TextPart("done")])

    foreign = FunctionToolset[None]([foreign_search], id="foreign")
    declared = FunctionToolset[None]([foreign_look], id="declared")
    agent = Agent(
        FunctionModel(model),
        deps_type=type(None),
        toolsets=[foreign, DeclaredToolset(declared, lambda _name: ToolFacts(side_effects=False))],
        capabilities=[session_tools(spec_of(), workspace)],
    )
    await agent.run("go")
    reading = {name for name, tool in seen.items() if not facts_of(tool).side_effects}
    assert reading == {
        "read_file",
        "list_directory",
        "search_files",
        "find_files",
        "file_info",
        "foreign_look",
    }


def foreign_search(pattern: str) -> str:
    return pattern


def foreign_look(path: str) -> str:
    return path


def test_an_agent_gets_the_toolsets_it_names_and_no_others(tmp_path: Path) -> None:
    workspace = SessionWorkspace(tmp_path, launcher=CommandLauncher())

    def ids(*tools: str) -> list[str | None]:
        return [each.id for each in session_tools(spec_of(tools=list(tools)), workspace).toolsets]

    assert (ids(), ids("files"), ids("files", "shell")) == ([], ["files"], ["files", "shell"])


class _Steps(JournalCallableOperationBackend[None]):
    """Keeps the names of the steps it ran."""

    def __init__(self, names: list[str], agent_name: str, model_id: str | None) -> None:
        config = RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None)
        super().__init__(agent_name=agent_name, default_model_id=model_id, config=config)
        self._names = names

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        self._names.append(name)
        return await body()


class _Durability(BaseDurabilityCapability[None]):
    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="Test",
        durable_unit_noun="step",
        durable_container_noun="leg",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset({"function", "mcp"}),
        toolset_lifecycles={"function": "enter-never", "mcp": "enter-in-durable-unit"},
        unsupported_runtime_toolset_kinds=frozenset({"dynamic"}),
    )

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    @property
    def in_durable_context(self) -> bool:
        return True

    def get_durable_operation_backend(self) -> _Steps:
        return _Steps(self.names, self.name, self.default_model_id)


async def test_the_result_of_a_command_that_nothing_held_in_says_so(tmp_path: Path) -> None:
    async with CommandLauncher(policy=Policy()) as launcher:
        launcher.warning = "commands run WITHOUT isolation"
        [result, other] = await call_tools(
            SessionWorkspace(tmp_path, launcher=launcher),
            ("run_command", {"command": "echo made"}),
            ("list_directory", {"path": "."}),
            durability=[_Durability([])],
        )
    assert "made" in result.content
    assert result.metadata == {"isolation": "commands run WITHOUT isolation"}
    assert other.metadata is None


async def test_the_toolsets_work_as_durable_steps(workspace: SessionWorkspace) -> None:
    names: list[str] = []
    results = await call_tools(
        workspace,
        ("run_command", {"command": "echo made > file"}),
        ("read_file", {"path": "file"}),
        ("read_file", {"path": "/etc/passwd"}),
        durability=[_Durability(names)],
    )
    assert [result.outcome for result in results] == ["success", "success", "failed"]
    assert sum("shell" in name for name in names) == 1
    assert sum("files" in name for name in names) == 2
