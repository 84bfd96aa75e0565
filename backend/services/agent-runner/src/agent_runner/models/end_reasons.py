"""What each provider's word for the end of an answer means. The one table of them; asks nothing.

Sources (2026-11): OpenAI Chat Completions `finish_reason` and Responses `incomplete_details.reason`,
Anthropic `stop_reason`, Gemini `FinishReason`, Mistral, DeepSeek, Zhipu, vLLM, SGLang, llama.cpp, Ollama,
Bedrock, and reports of what gateways in between make of them.
"""

from enum import StrEnum, auto
from typing import Final


class AnswerEnd(StrEnum):
    """How an answer ended."""

    DONE = auto()
    """The model said what it had to say."""
    CUT = auto()
    """The limit of tokens for one answer."""
    CONTEXT_FULL = auto()
    """The model's context window: asking to go on would not help."""
    REFUSED = auto()
    """The model, or a filter in front of it, would not answer. Asking again would not help."""
    GAVE_UP = auto()
    """The server stopped in the middle, for reasons of its own. Asking again may help."""


_WORDS: Final = {
    AnswerEnd.DONE: (
        "stop end_turn end eos eos_token eos_found stop_sequence stop_token stop_str complete completed "
        "finish finished done tool_calls tool_call tool_use function_call function_calls tools "
        "pause_turn steered"
    ),
    AnswerEnd.CUT: (
        "length max_tokens max_token max_output_tokens max_new_tokens max_completion_tokens max_length "
        "token_limit length_limit limit truncated incomplete"
    ),
    AnswerEnd.CONTEXT_FULL: (
        "model_context_window_exceeded context_window_exceeded context_length_exceeded context_length "
        "model_length max_context_length context_limit"
    ),
    AnswerEnd.REFUSED: (
        "content_filter content_filtered contentfilter refusal refused safety sensitive recitation blocklist "
        "prohibited_content spii language image_safety image_prohibited_content image_recitation "
        "guardrail_intervened guardrail moderation blocked risk_control content_risk error_toxic "
        "toxic censored"
    ),
    AnswerEnd.GAVE_UP: (
        "error abort aborted cancel cancelled canceled failed failure timeout time_limit network_error "
        "server_error internal_error insufficient_system_resource overloaded interrupted load "
        "malformed_function_call unexpected_tool_call malformed_tool_call malformed_model_output "
        "malformed_response missing_thought_signature too_many_tool_calls no_image eos_missing"
    ),
}
_MEANINGS: Final = {word: end for end, words in _WORDS.items() for word in words.split()}


def meaning_of(reason: str | None) -> AnswerEnd | None:
    """What a provider's word means; None where it says nothing.

    A word that nobody knows is taken for a good end: the answer is there, and the word stands in the log.
    """
    word = (reason or "").strip().lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")
    if word in ("", "null", "none", "unspecified", "undefined"):
        return None
    return _MEANINGS.get(word, AnswerEnd.DONE)
