"""The script of the end-to-end tests: ten commands with side effects, and a stack that asks for them."""

from collections.abc import Sequence

from model_server import VALID_KEY, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn

TOOL_CALLS = 10
"""Each of the first ten answers calls a command that appends a line to `done.txt`; the 11th is the last."""

QUICK_HEARTBEAT = {"STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS": "4"}
"""A killed runner is noticed sooner than a person would need it."""


def ten_tool_script() -> ScriptedModel:
    """An execution of ten commands with side effects."""
    command = ScriptedCall("run_command", {"command": "echo turn-{turn} >> done.txt"})
    turns = [ScriptedTurn(text="Working on {turn}.", calls=[command]) for _ in range(TOOL_CALLS)]
    return ScriptedModel([*turns, ScriptedTurn(text="All ten are done.")])


def calls_in_order(turns: Sequence[Sequence[ScriptedCall]]) -> ScriptedModel:
    """An execution in which each answer makes such calls, and the one after them ends it."""
    answers = [ScriptedTurn(text="So far.", calls=list(calls)) for calls in turns]
    return ScriptedModel([*answers, ScriptedTurn(text="That is all.")])


def runner_environment(model: ModelServer) -> dict[str, str]:
    """What makes a runner ask the scripted model."""
    return {
        "STIGMER_LLM_BASE_URL": model.url,
        "OPENAI_API_KEY": VALID_KEY,
        "STIGMER_LLM_PROVIDER": "openai",
        "STIGMER_LLM_MODEL": "gpt-5",
    }
