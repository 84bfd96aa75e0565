"""What the workflow of each release left in Temporal can be gone on with by this code.

A workflow that is under way while Stigmer is upgraded is replayed by the new code. Where the new code asks
for other commands than the history holds, it would stand still for ever.
"""

from pathlib import Path
from typing import Final

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from agent_runner.leg_parts import RUNNER_VERSION
from agent_runner.workflows import AgentExecution
from stigmer_contract.temporal import WORKFLOW_TYPE, AgentExecutionInput

RECORDED: Final = sorted((Path(__file__).parent / "workflow_histories").glob("*/*.json"))


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def _replayer(workflow_class: type) -> Replayer:
    return Replayer(
        workflows=[workflow_class],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


def _history(file: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(_name(file), file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", RECORDED, ids=_name)
async def test_a_recorded_workflow_is_gone_on_with(file: Path) -> None:
    result = await _replayer(AgentExecution).replay_workflow(_history(file), raise_on_replay_failure=False)

    assert result.replay_failure is None


def test_this_version_has_its_histories() -> None:
    """`make workflow-histories` writes them; see `docs/releasing.md`."""
    assert RUNNER_VERSION in {file.parent.name for file in RECORDED}


@workflow.defn(name=WORKFLOW_TYPE, sandboxed=False)
class SleepsFirst:
    """A workflow that is not the one of the histories."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        await workflow.sleep(1)


async def test_a_workflow_that_changed_without_care_is_found_out() -> None:
    with pytest.raises(NondeterminismError):
        await _replayer(SleepsFirst).replay_workflow(_history(RECORDED[0]))
