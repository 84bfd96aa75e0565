"""`stigmer executions list` shows what the contract's models would, without importing them."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from cli_harness import Command, Server
from stigmer_cli.api_client import HttpTransport
from stigmer_cli.api_client.http_transport import HttpResponse
from stigmer_cli.api_client.listed_executions import fetch_listed
from stigmer_cli.errors import CallRefused
from stigmer_cli.rendering.execution_table import print_executions
from stigmer_contract.api import ExecutionError, ExecutionResource, Page
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import InlinePayload, Usage
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind, WaitReason

BEGUN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def execution(number: int, **fields: Any) -> ExecutionResource:
    defaults = {
        "execution_id": f"exe_{number:026}",
        "session_id": f"ses_{number:026}",
        "agent_name": "report-writer",
        "model": None,
        "phase": ExecutionPhase.COMPLETED,
        "attempt": 1,
        "last_sequence": 9,
        "usage": Usage(),
        "created_at": BEGUN,
        "ended_at": BEGUN + timedelta(minutes=number),
    }
    return ExecutionResource.model_validate(defaults | fields)


EXECUTIONS = [
    execution(1, input_head="Write it, ä", output=InlinePayload(value="done")),
    execution(2, usage=Usage(requests=3, input_tokens=9_000, output_tokens=70, cost_usd=Decimal("0.0123"))),
    execution(
        3, phase=ExecutionPhase.FAILED, error=ExecutionError(code=ErrorCode.RUNNER_LOST, message="It died.")
    ),
    execution(4, phase=ExecutionPhase.PENDING, pending_reason="no runner is connected"),
    execution(5, phase=ExecutionPhase.IN_PROGRESS, standing_reason="no runner has it in hand"),
    execution(6, phase=ExecutionPhase.IN_PROGRESS, cancel_requested=True),
    execution(7, phase=ExecutionPhase.WAITING, paused_at=BEGUN),
    *(
        execution(
            10 + number,
            phase=ExecutionPhase.WAITING,
            waiting_for=[WaitReason(kind=kind, key="x", until=BEGUN, detail="it failed")],
        )
        for number, kind in enumerate(WaitKind)
    ),
]


class OneAnswer:
    """A server that answers everything alike."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def request(self, method: str, path: str, *, query: Mapping[str, object]) -> HttpResponse:
        """The answer."""
        assert (method, path) == ("GET", "/v1/executions"), query
        return HttpResponse(200, self._body)


def transport(body: str) -> HttpTransport:
    return cast("HttpTransport", OneAnswer(body.encode()))


def test_a_list_looks_as_if_it_had_been_read_by_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page[ExecutionResource](items=EXECUTIONS, next_cursor=None)
    print_executions(EXECUTIONS)
    expected = capsys.readouterr().out
    print_executions(fetch_listed(transport(page.model_dump_json()), 100, {}))
    assert capsys.readouterr().out == expected
    assert len(expected.splitlines()) == len(EXECUTIONS) + 1


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"items": [{}], "next_cursor": null}', '{"items": 7}'])
def test_an_answer_that_is_no_list_is_told(body: str) -> None:
    with pytest.raises(CallRefused) as raised:
        fetch_listed(transport(body), 100, {})
    assert raised.value.message == "the server's list of executions is not as it should be"


def test_listing_imports_no_models(command: Command, server: Server) -> None:
    watching = (
        "import sys, stigmer_cli.__main__ as program\n"
        "sys.argv = ['stigmer', 'executions', 'list']\n"
        "try: program.main()\n"
        "finally: print(sorted({'pydantic', 'stigmer_contract.api', 'yaml', 'httpx'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watching],
        env=command.environment,
        cwd=command.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr
