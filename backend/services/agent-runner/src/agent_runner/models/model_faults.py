"""What a failed model request means: whether asking again can help, when, and what to tell a person.

The one table in which providers' errors are translated. Asks nothing again itself.
"""

import random
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import httpx2
from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior, UserError

from agent_runner.models.provider_errors import ProviderError, error_in, retry_after_of
from stigmer_contract.error_codes import ErrorCode

FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 30.0
MAX_REASON_CHARACTERS: Final = 300


class Retry(IntEnum):
    """How many requests for one answer a kind of failure is worth, the first among them."""

    NEVER = 1
    """The same request will fail in the same way."""
    ODD = 3
    """The answer could not be used. Most servers that answer so always do, and each answer is paid for."""
    OFTEN = 9
    """The answer broke off, or the model is away; how long that may last is `limits.modelUnavailable`."""


@dataclass(frozen=True)
class ModelFault:
    """A failed request, as the journal and a person need to know it."""

    retry: Retry
    retry_after_seconds: float | None
    """How long the provider asked to wait."""
    code: ErrorCode
    message: str
    """One line: the model, and the provider's own reason."""
    hint: str | None = None
    refuses_history: bool = False
    """Whether something in the conversation may be what the provider does not take."""
    overflows: bool = False
    """Whether the request, or it and its answer, are more than the model takes."""
    limit_tokens: int | None = None
    """How much it takes, where the provider named that."""
    is_away: bool = False
    """Whether the model gave nothing at all, so that asking again costs nothing."""

    @property
    def retryable(self) -> bool:
        """Whether asking again can help at all."""
        return self.retry > Retry.NEVER

    @property
    def once_begun(self) -> "ModelFault":
        """The same, where the answer had begun."""
        return replace(self, is_away=False)


class ModelRequestFailed(Exception):
    """A request for an answer failed, and it is known what that means."""

    def __init__(self, fault: ModelFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


# --- the table --------------------------------------------------------------------------------

_CONTEXT_HINT: Final = "give the agent a smaller task, or name a model with a larger context window"
_QUOTA_HINT: Final = "top up the provider's account, or name another model"
_KEY_HINT: Final = "give the runner a valid key of this provider, with access to the model"
_NAME_HINT: Final = "correct the model's name, or the provider's base URL"
_LATER_HINT: Final = "try again later, or name another model"

_CONTEXT_WORDS: Final = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "model_context_window_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
        "request_too_large",
        "max_tokens_exceeded",
        "prompt_too_long",
    }
)
_QUOTA_WORDS: Final = frozenset(
    {
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_balance",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "payment_required",
        "arrearage",
        "exceeded_current_quota_error",
        "billing_error",
    }
)
_KEY_WORDS: Final = frozenset(
    {
        "invalid_api_key",
        "api_key_invalid",
        "authentication_error",
        "invalid_authentication",
        "invalid_authentication_error",
        "unauthenticated",
        "unauthorized",
        "permission_denied",
        "permission_error",
        "permission_denied_error",
        "access_denied",
        "accessdenied",
        "incorrect_api_key",
    }
)
_NAME_WORDS: Final = frozenset(
    {
        "model_not_found",
        "not_found_error",
        "not_found",
        "model_not_available",
        "notfounderror",
        "invalid_model",
    }
)
_FILTER_WORDS: Final = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "sensitive_words_detected",
        "1301",  # Zhipu
    }
)
_BUSY_WORDS: Final = frozenset(
    {
        "rate_limit_error",
        "rate_limit_exceeded",
        "rate_limit_reached_error",
        "too_many_requests",
        "resource_exhausted",
        "overloaded_error",
        "overloaded",
        "engine_overloaded_error",
        "server_is_overloaded",
        "server_error",
        "internal_error",
        "internal_server_error",
        "internalservererror",
        "internal",
        "api_error",
        "service_unavailable",
        "service_unavailable_error",
        "unavailable",
        "timeout",
        "timeout_error",
        "request_timeout",
        "gateway_timeout",
        "bad_gateway",
        "upstream_error",
        "apiconnectionerror",
        "network_error",
    }
)
_REFUSED_WORDS: Final = frozenset(
    {
        "invalid_request_error",
        "invalid_argument",
        "bad_request",
        "badrequesterror",
        "invalid_request",
        "400",
        "422",
    }
)

_CONTEXT_TEXT: Final = re.compile(
    r"maximum context length|context[ _]?(length|window|size)|(input|prompt) (is )?too long"
    r"|input token count|tokens allowed|maximum prompt length|reduce the length of|too large for model with"
    r"|max_new_tokens. must be|range of input length"
    r"|exceeds? the (model'?s? )?max(imum)? (input|number of) tok"
    r"|exceed_context|input length .{0,40}exceed|too many (input |total )?tokens"
    r"|tokens? .{0,40}exceeds? .{0,30}limit"
    r"|number of input tokens|larger than the context|must have less than \d+ tokens|上下文|超过.{0,8}长度",
    re.IGNORECASE,
)
_TOO_LARGE_TEXT: Final = re.compile(
    r"request too large|tokens must be reduced|reduce your message size", re.IGNORECASE
)
"""For the whole limit of a minute, so that waiting for the next does not help."""
_LIMITS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:maximum|max|model'?s?) context (?:length|window|size)[^\d]{0,40}(\d[\d,]{2,11})",
        r"context[ _](?:length|window|size)(?: of| is|:| \()?(?: only)?[^\d]{0,20}(\d[\d,]{2,11})",
        r"> ?(\d[\d,]{2,11}) (?:maximum|max)",
        r"maximum (?:number of )?(?:input )?tokens[^\d]{0,30}\(?(\d[\d,]{2,11})",
        r"maximum prompt length is (\d[\d,]{2,11})",
        r"(?:less|fewer) than (\d[\d,]{2,11}) tokens",
        r"n_ctx\D{0,5}(\d[\d,]{2,11})",
        r"limit(?:ed)?(?: of| is| to|:)? ?(\d[\d,]{2,11})",
        r"should be \[\d+, ?(\d[\d,]{2,11})\]",
        r"exceeds? (?:the )?(?:limit|maximum) of (\d[\d,]{2,11})",
    )
)
"""How providers name what a model takes, the surest first."""
_LEAST_LIMIT: Final = 256
_MOST_LIMIT: Final = 100_000_000
_QUOTA_TEXT: Final = re.compile(
    r"credit balance|insufficient (balance|credit|quota|funds)|exceeded your current quota|out of credits"
    r"|requires more credits|used all available credits|requires a subscription"
    r"|payment required|account .{0,20}(overdue|arrears)|余额不足|欠费",
    re.IGNORECASE,
)
_KEY_TEXT: Final = re.compile(
    r"api[ _-]?key (not valid|is invalid|expired)|invalid api[ _-]?key", re.IGNORECASE
)
_NAME_TEXT: Final = re.compile(
    r"model .{0,80}(not found|does not exist|not exist|is not available|not supported by this)|no such model"
    r"|unknown model|model_not_found|try pulling it",
    re.IGNORECASE,
)
_TOOLS_TEXT: Final = re.compile(
    r"does not support (tools|function|tool)|tool (use|calling|choice) .{0,30}(not supported|unsupported)"
    r"|support tool use|--enable-auto-tool-choice|requires --jinja|tools? (is|are) not supported",
    re.IGNORECASE,
)
_TEMPLATE_TEXT: Final = re.compile(
    r"jinja|chat[ _]template|conversation roles must|roles must alternate|rendering prompt|apply template"
    r"|unexpected role|expected last role",
    re.IGNORECASE,
)
"""The model's own template cannot put this conversation into words; servers say 400 or 500."""
_HISTORY_TEXT: Final = re.compile(
    r"item (with id )?.{0,120}(not found|without its required)|no tool (output|call) found"
    r"|tool_call_ids? did not have response|unexpected .?tool_use_id|encrypted content",
    re.IGNORECASE,
)
_HOPELESS_TEXT: Final = re.compile(
    r"requires more (system )?memory|unexpected endpoint|no models? loaded",
    re.IGNORECASE,
)
"""What a server says with 500 or 200, and says again however often it is asked."""
_FILTER_TEXT: Final = re.compile(
    r"requires moderation|flagged (by|as)|content (policy|management policy|filter)"
    r"|data may contain inappropriate",
    re.IGNORECASE,
)
_NO_QUOTA_AT_ALL: Final = re.compile(r"limit: 0(?![.\d])")
_BUSY_TEXT: Final = re.compile(
    r"overloaded|over capacity|try again|temporar|time(d)? ?out|internal (server )?error|too many requests"
    r"|rate limit|unavailable|upstream|bad gateway|connection (error|reset|refused|closed)|busy|loading model"
    r"|server error|请稍后|繁忙",
    re.IGNORECASE,
)
_BUSY_STATUSES: Final = frozenset({408, 409, 425, 429})
# Some proxies quote the key that they refuse.
_KEY_QUOTED: Final = re.compile(r"\b(sk-|Bearer\s+)[\w.*-]{8,}", re.IGNORECASE)


def fault_of_response(
    model: str, status: int, headers: Mapping[str, str], body: object, text: str
) -> ModelFault:
    """What a response with an error status means.

    Args:
        model: the model's name at the provider.
        status: the HTTP status, 300 or more.
        headers: names in lower case.
        body: the body as JSON; None where it is none.
        text: the body as text.
    """
    if status < 400:
        where = headers.get("location") or "elsewhere"
        return ModelFault(
            Retry.NEVER,
            None,
            ErrorCode.MODEL_REJECTED,
            f"model {model!r} was refused: {status}: the server sends its callers on to {one_line(where)}",
            "set the provider's base URL to where it sends you",
        )
    error = error_in(body)
    if error is None or not error.message:
        said = "" if _is_markup(text) else text
        words = error.words if error is not None else frozenset[str]()
        error = ProviderError(said, words, None, None)
    wait = retry_after_of(headers)
    return fault_of_error(model, error, status, wait)


def fault_of_error(
    model: str, error: ProviderError, status: int | None = None, retry_after_seconds: float | None = None
) -> ModelFault:
    """What an error means that a provider put into words, with its HTTP status where it has one."""
    status = status or error.status
    words, text = error.words, error.message
    wait = retry_after_seconds if retry_after_seconds is not None else error.retry_after_seconds
    if status is not None:
        reason = f"{status}: {text}" if text else f"HTTP status {status}"
    else:
        reason = text or ", ".join(sorted(words)) or "the provider said only that there was an error"
    reason = one_line(reason)

    def refused(hint: str | None, *, refuses_history: bool = False) -> ModelFault:
        message = f"model {model!r} was refused: {reason}"
        return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message, hint, refuses_history)

    def too_large() -> ModelFault:
        return replace(refused(_CONTEXT_HINT), overflows=True, limit_tokens=limit_in(text))

    limits_rate = status == 429 or "resource_exhausted" in words
    if _TOO_LARGE_TEXT.search(text):
        return too_large()
    if (
        words & _QUOTA_WORDS
        or status == 402
        or (_QUOTA_TEXT.search(text) and "resource_exhausted" not in words)
        or (limits_rate and _NO_QUOTA_AT_ALL.search(text))
    ):
        return refused(_QUOTA_HINT)
    if words & _CONTEXT_WORDS or status == 413 or (not limits_rate and _CONTEXT_TEXT.search(text)):
        return too_large()
    if words & _FILTER_WORDS or (status in (400, 403, None) and _FILTER_TEXT.search(text)):
        message = f"the provider's content filter refused: {reason}"
        return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message)
    if _TOOLS_TEXT.search(text) and (not status or status < 500 or status == 501 or "--jinja" in text):
        return refused("name a model, or start the server in a way, that can call tools")
    if _TEMPLATE_TEXT.search(text) or (_HISTORY_TEXT.search(text) and status in (400, 404, 422, None)):
        return refused(None, refuses_history=True)
    if _HOPELESS_TEXT.search(text):
        return refused("look at the server of the model, and at the provider's base URL")
    if status in (401, 403) or words & _KEY_WORDS or (status == 400 and _KEY_TEXT.search(text)):
        return refused(_KEY_HINT)
    if status == 404 or words & _NAME_WORDS or (status in (400, None) and _NAME_TEXT.search(text)):
        return refused(_NAME_HINT)
    if status is not None:
        if (status >= 500 and status not in (501, 505)) or status in _BUSY_STATUSES:
            return unavailable(f"model {model!r} failed: {reason}", wait)
        return refused(None, refuses_history=status in (400, 422))
    if words & _REFUSED_WORDS:
        return refused(None, refuses_history=True)
    if words & _BUSY_WORDS or _BUSY_TEXT.search(text):
        return unavailable(f"model {model!r} failed: {reason}", wait)
    return refused(None)


def limit_in(text: str) -> int | None:
    """The tokens that a model takes, where an error names them; None where it does not, or names nonsense."""
    for pattern in _LIMITS:
        if (found := pattern.search(text)) is not None:
            limit = int(re.sub("[,_.]", "", found[1]))
            return limit if _LEAST_LIMIT <= limit <= _MOST_LIMIT else None
    return None


def unavailable(message: str, retry_after_seconds: float | None = None) -> ModelFault:
    """It may work later."""
    code = ErrorCode.MODEL_UNAVAILABLE
    return ModelFault(Retry.OFTEN, retry_after_seconds, code, message, _LATER_HINT, is_away=True)


def silent(model: str, seconds: float, *, has_begun: bool) -> ModelFault:
    """Nothing came for longer than the agent's settings allow."""
    said = f"its answer stood still for {seconds:g} seconds" if has_begun else None
    return unavailable(f"model {model!r} failed: {said or f'no answer began within {seconds:g} seconds'}")


def odd_answer(model: str, problem: str, hint: str | None = _LATER_HINT) -> ModelFault:
    """An answer that cannot be used."""
    message = f"model {model!r} failed: {one_line(problem)}"
    return ModelFault(Retry.ODD, None, ErrorCode.MODEL_UNAVAILABLE, message, hint)


def wrong_server(model: str, problem: str) -> ModelFault:
    """What answers does not speak the provider's API."""
    message = f"model {model!r} was refused: {one_line(problem)}"
    return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message, "correct the provider's base URL")


def refused_by_model(model: str, words: str) -> ModelFault:
    """The model, or a filter in front of it, would not answer. `words` are its own."""
    said = one_line(words) or "the provider's content filter stopped the answer"
    message = f"model {model!r} refused: {said}"
    return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message)


def context_full(model: str) -> ModelFault:
    """The conversation and the answer together are more than the model takes."""
    message = f"model {model!r} stopped in the middle of its answer: its context window is full"
    code = ErrorCode.MODEL_REJECTED
    return ModelFault(Retry.NEVER, None, code, message, _CONTEXT_HINT, overflows=True)


# --- errors of other kinds ---------------------------------------------------------------------


def classify_fault(error: BaseException) -> ModelFault:
    """What the error of one model request means. Unknown errors are defects of ours: not retryable."""
    if isinstance(error, ModelRequestFailed):
        return error.fault
    match error:
        case ModelAPIError():
            return unavailable(
                f"model {error.model_name!r} failed: {one_line(str(error))}", error.retry_after
            )
        case UnexpectedModelBehavior():
            return ModelFault(
                Retry.ODD,
                None,
                ErrorCode.MODEL_UNAVAILABLE,
                f"the model's answer could not be used: {one_line(str(error))}",
                _LATER_HINT,
            )
        case UserError():
            message = f"the model cannot be asked that: {one_line(str(error))}"
            return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message)
        case _:
            message = f"asking the model failed unexpectedly: {type(error).__name__}"
            return ModelFault(Retry.NEVER, None, ErrorCode.INTERNAL, message, "look into the runner's log")


def fault_of_transport(model: str, error: Exception) -> ModelFault:
    """What it means that a request could not be sent, or its answer not be read."""
    if (problem := _certificate_problem(error)) is not None:
        return ModelFault(
            Retry.NEVER,
            None,
            ErrorCode.MODEL_UNAVAILABLE,
            f"the certificate of the model's endpoint is not trusted: {problem}",
            "name its authorities: `stigmer config set caBundle FILE`, then `stigmer server restart`; for a "
            "runner elsewhere in SSL_CERT_FILE",
        )
    reason = one_line(str(error)) or type(error).__name__
    match error:
        case httpx2.LocalProtocolError() | httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            # Its text may quote a header, and so a key.
            message = f"model {model!r} cannot be asked: {type(error).__name__}"
            hint = "correct the provider's base URL, key and headers"
            return ModelFault(Retry.NEVER, None, ErrorCode.MODEL_REJECTED, message, hint)
        case httpx2.DecodingError():
            return odd_answer(model, f"its body is not encoded as it says: {reason}")
        case _:
            return unavailable(f"model {model!r} failed: {reason}")


def backoff_seconds(failure_count: int, retry_after_seconds: float | None) -> float:
    """How long to wait before asking again: exponential with jitter, never less than asked for.

    Args:
        failure_count: failures of this request so far, from 1.
        retry_after_seconds: what the provider asked for.
    """
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (min(failure_count, 32) - 1))
    if retry_after_seconds is not None:
        # The jitter keeps executions that were refused together from coming back together.
        return max(retry_after_seconds, 0.0) + random.uniform(0, min(longest, 1.0))  # noqa: S311 - no secret
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret


def one_line(text: str) -> str:
    """A provider's words, fit for a message: one line, bounded, without keys."""
    line = _KEY_QUOTED.sub(r"\1…", " ".join(text.encode("utf-8", "replace").decode().split()))
    return line if len(line) <= MAX_REASON_CHARACTERS else line[: MAX_REASON_CHARACTERS - 1] + "…"


def _is_markup(text: str) -> bool:
    return text.lstrip()[:100].lower().startswith(("<!doctype", "<html", "<?xml", "<head"))


def _certificate_problem(error: BaseException | None) -> str | None:
    """What is wrong with a certificate, where that is behind the error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
