"""Which call of an execution a person means by `--answer CALL=TEXT`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.conversation import AnswerToolCall
    from stigmer_contract.steps import Step


def read_answers(client: "ApiClient", execution_id: str, at: int, given: Sequence[str]) -> dict[str, str]:
    """The answers by the ids of the calls.

    Raises:
        UsageError: one is none, or the turn of the step has no such call, or several.
    """
    from stigmer_contract.conversation import AnswerToolCall, ModelAnswer
    from stigmer_contract.events import ModelResponded
    from stigmer_contract.steps import number_steps

    events = list(client.read_events(execution_id))
    steps = number_steps(events)
    step = next((each for each in steps if each.number == at), None)
    if step is None:
        raise UsageError(
            f"--answer is for calls of the turn of --at, and there is no step {at}",
            "`stigmer executions get` shows the steps with their numbers",
        )
    calls = list[AnswerToolCall]()
    for recorded in events:
        event = recorded.event
        if isinstance(event, ModelResponded) and (event.agent_path, event.turn) == ("", step.turn):
            answer = ModelAnswer.model_validate(client.load_payload(event.response))
            calls = [part for part in answer.parts if isinstance(part, AnswerToolCall)]
    answers = dict[str, str]()
    for each in given:
        name, separator, text = each.partition("=")
        if not separator:
            raise UsageError(f"--answer {each!r}: there is no =", "write it as CALL=TEXT")
        answers[_call_id(name, calls, steps, step)] = text
    return answers


def _call_id(name: str, calls: "Sequence[AnswerToolCall]", steps: "Sequence[Step]", step: "Step") -> str:
    by_number = {str(each.number): each.call_id for each in steps if each.turn == step.turn}
    if (found := by_number.get(name)) is not None:
        return found
    fitting = [call.call_id for call in calls if name == call.call_id]
    fitting = fitting or [call.call_id for call in calls if name == call.tool]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{call.tool} ({call.call_id})" for call in calls) or "none"
    what = f"{len(fitting)} calls are {name!r}" if fitting else f"there is no call {name!r}"
    raise UsageError(f"--answer: {what} in the turn of step {step.number}", f"its calls: {there}")
