"""Executions are paused and resumed, and kinds of calls that were approved are listed and revoked."""

from asking_legs import approve_a_kind
from cli_harness import Command, Server
from stigmer_contract import events
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind, WaitReason


def test_an_execution_is_paused_and_resumed(command: Command, server: Server) -> None:
    started = command.run("run", ".", "Count.", "--detach")
    leg = server.take_execution(started.stdout.strip())
    paused = command.run("executions", "pause", leg.execution_id, "--reason", "lunch")
    assert (paused.exit_code, paused.stdout) == (0, "")
    assert paused.stderr == f"paused; `stigmer executions resume {leg.execution_id}` lets it go on\n"
    seen = server.client.get_execution(leg.execution_id).last_sequence
    leg.append(
        events.LegEnded(
            attempt=1,
            reason=events.LegEndReason.WAITING,
            waiting_for=[WaitReason(kind=WaitKind.PAUSE)],
            seen=seen,
        )
    )
    shown = command.run("executions", "get", leg.execution_id).stdout
    assert "phase      paused\n" in shown
    assert "paused: lunch\n" in shown
    assert "by administrator" not in shown
    assert command.run("executions", "resume", leg.execution_id).exit_code == 0
    assert server.client.get_execution(leg.execution_id).phase is ExecutionPhase.IN_PROGRESS
    again = command.run("executions", "resume", leg.execution_id)
    assert (again.exit_code, again.stderr.splitlines()[0]) == (
        1,
        f"error: execution '{leg.execution_id}' is not paused: it is in_progress",
    )


def test_a_kind_of_call_is_listed_and_revoked(command: Command, server: Server) -> None:
    started = command.run("run", ".", "Push.", "--detach")
    execution_id = started.stdout.strip()
    none = command.run("executions", "grants", execution_id)
    assert (none.exit_code, none.stdout) == (0, "")
    nothing = command.run("executions", "revoke", execution_id)
    assert (nothing.exit_code, nothing.stderr.splitlines()[0]) == (
        1,
        "error: no kind of call is approved once for all",
    )
    approve_a_kind(server, server.take_execution(execution_id), "git push *")
    assert "shell: git push *" in command.run("executions", "grants", execution_id).stdout
    revoked = command.run("executions", "revoke", execution_id)
    assert (revoked.exit_code, revoked.stderr) == (0, "asked about again: shell: git push *\n")
    assert command.run("executions", "revoke", execution_id).exit_code == 1
    [grant] = server.client.list_grants(execution_id)
    assert grant.revoked_at is not None
