"""`stigmer test` gives an execution its time where what it waits for comes by itself, and ends itself."""

import pytest

from cli_harness import Server
from stigmer_cli.commands import test_runs
from stigmer_cli.commands.test_runs import wait_for_end, waits_for_person
from stigmer_cli.errors import StigmerError
from stigmer_contract.api import CreateExecution
from stigmer_contract.events import ExecutionCancelled
from stigmer_contract.manifest import AgentManifest
from stigmer_contract.waits import WaitKind, WaitReason


@pytest.mark.parametrize("kind", WaitKind)
def test_only_a_decision_and_an_answer_are_a_persons(kind: WaitKind) -> None:
    reasons = [WaitReason(kind=WaitKind.TIME), WaitReason(kind=kind)]
    assert waits_for_person(reasons) is (kind in {WaitKind.APPROVAL, WaitKind.ANSWER})


def test_an_execution_that_nobody_ends_is_not_waited_for_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_runs, "END_SECONDS", 1.0)
    manifest = AgentManifest.model_validate(
        {
            "apiVersion": "agentic.stigmer.ai/v1",
            "kind": "Agent",
            "metadata": {"name": "left-alone"},
            "spec": {"instructions": "Work."},
        }
    )
    given = server.client.create_execution(CreateExecution(manifest=manifest, input="Work."))
    leg = server.take_execution(given.execution_id)
    with pytest.raises(StigmerError) as raised:
        wait_for_end(server.client, given.execution_id, 0.0)
    leg.append(ExecutionCancelled(reason="the test's time is over"))
    assert raised.value.message.startswith(
        "the test's time is over, and the execution has not ended within 1 s of being cancelled"
    )
    assert wait_for_end(server.client, given.execution_id, 0.0)[0].phase.is_terminal
